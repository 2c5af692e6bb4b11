#include "base/json.h"
#include "suite.h"

#include <string.h>

static json_t *load(const char *text) {
    json_t *object = NULL;
    AQ_CHECK(aq_json_load(text, strlen(text), &object));
    return object;
}

static void check_refused(const char *text, const char *part) {
    json_t *object;
    AQ_CHECK_FAILS(aq_json_load(text, strlen(text), &object), AQ_FORMAT, part);
    CU_ASSERT_PTR_NULL(object);
}

static void json_other_than_one_object_is_refused(void) {
    check_refused("", "not valid JSON: line 1");
    check_refused("{\"a\": 1", "not valid JSON: line 1");
    check_refused("{\"a\": 1,\n \"b\": }", "line 2");
    check_refused("{} {}", "not valid JSON");
    check_refused("[1]", "expected a JSON object");
    check_refused("{\"a\": NaN}", "not valid JSON");
    check_refused("{\"a\": 1e999}", "not valid JSON");
    check_refused("{\"a\": 99999999999999999999}", "not valid JSON");
    check_refused("{\"a\": \"\xff\"}", "not valid JSON");
}

static void json_bytes_behind_the_length_are_not_read(void) {
    json_t *object;
    AQ_CHECK(aq_json_load("{}garbage", 2, &object));
    json_decref(object);
}

static void json_duplicate_keys_are_refused(void) {
    check_refused("{\"hidden_size\": 1, \"hidden_size\": 2}", "duplicate");
}

static void json_deep_nesting_is_refused(void) {
    static char text[20000];
    memset(text, '[', sizeof text - 1);
    memcpy(text, "{\"a\":", 5);
    check_refused(text, "not valid JSON");
}

static void json_getters_return_what_stands_there(void) {
    json_t *object = load("{\"size\": 7, \"real\": 0.5, \"flag\": true, \"text\": \"x\", "
                          "\"array\": [1], \"object\": {\"a\": 1}, \"whole\": 3}");
    size_t size;
    double real;
    bool flag;
    const char *text;
    const json_t *value;
    AQ_CHECK(aq_json_size(object, "size", 7, &size));
    CU_ASSERT_EQUAL(size, 7);
    AQ_CHECK(aq_json_positive(object, "real", &real));
    CU_ASSERT_EQUAL(real, 0.5);
    AQ_CHECK(aq_json_positive(object, "whole", &real));
    CU_ASSERT_EQUAL(real, 3.0);
    AQ_CHECK(aq_json_flag_or(object, "flag", false, &flag));
    CU_ASSERT_TRUE(flag);
    AQ_CHECK(aq_json_text(object, "text", &text));
    CU_ASSERT_STRING_EQUAL(text, "x");
    AQ_CHECK(aq_json_array(object, "array", &value));
    CU_ASSERT_EQUAL(json_array_size(value), 1);
    AQ_CHECK(aq_json_object(object, "object", &value));
    CU_ASSERT_EQUAL(json_object_size(value), 1);
    json_decref(object);
}

static void json_null_and_absent_take_the_fallback(void) {
    json_t *object = load("{\"none\": null}");
    const char *const keys[] = {"none", "absent"};
    for (int i = 0; i < 2; i++) {
        size_t size;
        double real;
        bool flag;
        const char *text;
        AQ_CHECK(aq_json_size_or(object, keys[i], 9, 5, &size));
        AQ_CHECK(aq_json_positive_or(object, keys[i], 2.5, &real));
        AQ_CHECK(aq_json_flag_or(object, keys[i], true, &flag));
        AQ_CHECK(aq_json_text_or(object, keys[i], "other", &text));
        CU_ASSERT_TRUE(size == 5 && real == 2.5 && flag);
        CU_ASSERT_STRING_EQUAL(text, "other");
        AQ_CHECK_FAILS(aq_json_size(object, keys[i], 9, &size), AQ_MISSING, keys[i]);
        AQ_CHECK_FAILS(aq_json_positive(object, keys[i], &real), AQ_MISSING, keys[i]);
        AQ_CHECK_FAILS(aq_json_text(object, keys[i], &text), AQ_MISSING, keys[i]);
    }
    json_decref(object);
}

static void check_size_refused(const char *value, const char *found) {
    char text[128], expected[128];
    size_t size;
    snprintf(text, sizeof text, "{\"hidden_size\": %s}", value);
    snprintf(expected, sizeof expected, "hidden_size: expected an integer from 1 to 100, found %s",
             found);
    json_t *object = load(text);
    AQ_CHECK_FAILS(aq_json_size(object, "hidden_size", 100, &size), AQ_FORMAT, expected);
    json_decref(object);
}

static void json_sizes_are_bounded_and_errors_name_key_and_value(void) {
    check_size_refused("0", "0");
    check_size_refused("-3", "-3");
    check_size_refused("101", "101");
    check_size_refused("9223372036854775807", "9223372036854775807");
    check_size_refused("8.0", "8.0");
    check_size_refused("\"8\"", "\"8\"");
    check_size_refused("true", "true");
    check_size_refused("[8]", "[8]");
}

static void json_values_of_another_kind_are_refused(void) {
    json_t *object = load("{\"a\": -1, \"b\": [], \"c\": 0}");
    double real;
    bool flag;
    const char *text;
    const json_t *value;
    AQ_CHECK_FAILS(aq_json_positive(object, "a", &real), AQ_FORMAT,
                   "a: expected a number above 0, found -1");
    AQ_CHECK_FAILS(aq_json_positive(object, "c", &real), AQ_FORMAT, "found 0");
    AQ_CHECK_FAILS(aq_json_positive(object, "b", &real), AQ_FORMAT, "found []");
    AQ_CHECK_FAILS(aq_json_flag_or(object, "a", true, &flag), AQ_FORMAT, "true or false");
    AQ_CHECK_FAILS(aq_json_text(object, "b", &text), AQ_FORMAT, "b: expected a text");
    AQ_CHECK_FAILS(aq_json_object(object, "b", &value), AQ_FORMAT, "b: expected an object");
    AQ_CHECK_FAILS(aq_json_array(object, "a", &value), AQ_FORMAT, "a: expected an array");
    json_decref(object);
}

int main(int argc, char **argv) {
    static const aq_case cases[] = {AQ_CASE(json_other_than_one_object_is_refused),
                                    AQ_CASE(json_bytes_behind_the_length_are_not_read),
                                    AQ_CASE(json_duplicate_keys_are_refused),
                                    AQ_CASE(json_deep_nesting_is_refused),
                                    AQ_CASE(json_getters_return_what_stands_there),
                                    AQ_CASE(json_null_and_absent_take_the_fallback),
                                    AQ_CASE(json_sizes_are_bounded_and_errors_name_key_and_value),
                                    AQ_CASE(json_values_of_another_kind_are_refused)};
    return aq_test_main("json", cases, sizeof cases / sizeof *cases, argc, argv);
}
