/* Status codes and the text of the last error.
 *
 * Every function that can fail returns an aq_status; its results leave through its last parameters.
 * The function that finds the fault writes one sentence for the user (what was expected, what was
 * found, where: path, tensor, block, key), callers on the way up may put a place in front of it,
 * and only a job's main prints it. The text belongs to the calling thread.
 */
#ifndef AQ_BASE_STATUS_H
#define AQ_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#define AQ_STATUS_LIST(X)                                                                          \
    X(OK, "success")                                                                               \
    X(INVALID, "invalid argument or setting")                                                      \
    X(SHAPE, "shapes or types do not fit")                                                         \
    X(MEMORY, "out of memory")                                                                     \
    X(IO, "input or output failed")                                                                \
    X(FORMAT, "malformed file")                                                                    \
    X(MISSING, "not found")                                                                        \
    X(UNSUPPORTED, "not supported")                                                                \
    X(DEVICE, "device error")                                                                      \
    X(COMM, "communication error")                                                                 \
    X(NUMERIC, "NaN, infinity or value out of range")                                              \
    X(STOPPED, "stopped on request")

typedef enum aq_status {
#define AQ_STATUS_ENUM(name, text) AQ_##name,
    AQ_STATUS_LIST(AQ_STATUS_ENUM)
#undef AQ_STATUS_ENUM
} aq_status;

/* The name of a code ("FORMAT"); "UNKNOWN" for a value outside the list. */
const char *aq_status_name(aq_status code);

/* Sets the calling thread's error text (at most 1,023 bytes, control characters replaced so that it
 * stays one line) and returns `code`. Use it through AQ_FAIL. */
__attribute__((format(printf, 4, 5))) aq_status aq_raise(aq_status code, const char *file, int line,
                                                         const char *format, ...);

/* Puts "place: " in front of the calling thread's error text and returns `code` unchanged. */
__attribute__((format(printf, 2, 3))) aq_status aq_error_at(aq_status code, const char *format,
                                                            ...);

/* The calling thread's last error text ("" if there was none), and the source position that raised
 * it ("file.c:12"). Both stay valid until the thread's next error. */
const char *aq_error_text(void);
const char *aq_error_source(void);

#define AQ_FAIL(code, ...) aq_raise((code), __FILE__, __LINE__, __VA_ARGS__)

/* Leaves the function with an error unless `condition` holds. */
#define AQ_REQUIRE(condition, code, ...)                                                           \
    do {                                                                                           \
        if (!(condition)) return AQ_FAIL((code), __VA_ARGS__);                                     \
    } while (0)

/* Leaves the function with the status of `call` if it failed. */
#define AQ_TRY(call)                                                                               \
    do {                                                                                           \
        aq_status aq_try_status = (call);                                                          \
        if (aq_try_status != AQ_OK) return aq_try_status;                                          \
    } while (0)

/* The same two for functions that clean up: they set the local `status` and jump to `done`. */
#define AQ_STEP(call)                                                                              \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != AQ_OK) goto done;                                                            \
    } while (0)

#define AQ_NEED(condition, code, ...)                                                              \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            status = AQ_FAIL((code), __VA_ARGS__);                                                 \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
