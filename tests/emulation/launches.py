#!/usr/bin/env python3
"""launches.py SOURCE TARGET: rewrites what is CUDA's own syntax into C++ for the emulator.

    kernel<<<blocks, threads, bytes, stream>>>(arguments)  becomes a call of emulated_launch,
    __shared__ float tile[32][33];                         a reference to the block's array,
    extern __shared__ float shared[];                      a pointer to what the launch asked for.

Lines keep their numbers, and #line keeps the file's name, so that reports name the real source.
"""
import re
import sys

LAUNCH = re.compile(r"(?P<kernel>\w+(?:<[^<>;]*>)?)(?P<gap>\s*)<<<(?P<grid>.*?)>>>\s*(?=\()", re.DOTALL)
QUALIFIERS = r"__shared__\s+(?:__align__\(\d+\)\s+)?(?P<type>[^;]+?)\s+(?P<name>\w+)"
LAUNCHED_ARRAY = re.compile(r"extern\s+" + QUALIFIERS + r"\[\];")
ARRAY = re.compile(QUALIFIERS + r"(?P<sizes>(?:\[[^;\]]*\])*);")


def end_of_parentheses(text, start):
    """The place after the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place + 1
    sys.exit(f"a launch's parentheses do not end: {text[start:start + 60]}")


def rewrite_launches(text):
    written, done = [], 0
    for launch in LAUNCH.finditer(text):
        end = end_of_parentheses(text, launch.end())
        kernel, gap, grid = launch.group("kernel", "gap", "grid")
        name, arguments = " ".join(kernel.split()), text[launch.end():end]
        call = f'emulated_launch("{name}",{gap}{{{grid}}}, [&] {{ {kernel}{arguments}; }})'
        written += [text[done:launch.start()], call]
        done = end
    return "".join(written) + text[done:]


def rewrite_shared_memory(text):
    text = LAUNCHED_ARRAY.sub(
        r"\g<type> *\g<name> = static_cast<\g<type> *>(emulated_launched_shared());", text)
    return ARRAY.sub(
        r"static char \g<name>_site; "
        r"auto &\g<name> = emulated_shared_array<\g<type>\g<sizes>>(&\g<name>_site);", text)


def main():
    source, target = sys.argv[1:]
    with open(source, encoding="utf-8") as file:
        text = rewrite_shared_memory(rewrite_launches(file.read()))
    for left in ("<<<", "__shared__"):
        if left in text:
            sys.exit(f"{source}: a {left} is not understood")
    with open(target, "w", encoding="utf-8") as file:
        file.write(f'#line 1 "{source}"\n{text}')


if __name__ == "__main__":
    main()
