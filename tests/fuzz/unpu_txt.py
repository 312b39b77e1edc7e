#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Holds tests/fuzz/unpu.txt against the headers: tests/fuzz/unpu_txt.py [--write] [FILE].

The compiler says of each struct how long it is and where its fields lie, and what the constants
are; the description must say the same, for 64-bit, and leave out no call, struct, field or constant
of uapi/unpu_accel.h. FILE.const, which syzkaller reads, must hold these constants; --write makes
it. Prints what is wrong, a line each, with status 1.
"""
import os
import re
import subprocess
import sys
import tempfile

HEADER = "uapi/unpu_accel.h"
INTS = {"int8": 1, "int16": 2, "int32": 4, "int64": 8}
COUNTERS = ("DRM_UNPU_LAYOUT_COUNT",)  # not ABI
INCLUDES = ("fcntl.h", "linux/dma-buf.h", "linux/sync_file.h", HEADER)

errors = []


def complain(text):
    errors.append(text)


# ---- the description ----

def split(text):
    """Splits at the commas outside of brackets and strings."""
    parts, depth, quoted, last = [], 0, False, 0
    for at, char in enumerate(text):
        quoted ^= char == '"'
        if quoted:
            continue
        depth += (char in "[(") - (char in "])")
        if char == "," and not depth:
            parts.append(text[last:at].strip())
            last = at + 1
    return parts + [text[last:].strip()] if text.strip() else []


def words_of(text):
    """name[a, b] -> name, [a, b]"""
    found = re.fullmatch(r"([\w$]+)(?:\[(.*)\])?", text.strip(), re.S)
    if not found:
        raise ValueError(f"cannot be read: {text}")
    return found.group(1), split(found.group(2) or "")


class Description:
    def __init__(self, text):
        self.resources, self.flags, self.structs, self.unions = {}, {}, {}, {}
        self.templates, self.calls, self.includes = {}, {}, []
        lines = iter(re.sub(r"^#.*", "", text, flags=re.M).split("\n"))
        for line in lines:
            if line.strip():
                self.read(line, lines)

    def read(self, line, lines):
        patterns = (
            (r"include <(.*)>", lambda m: self.includes.append(m[1])),
            (r"resource (\w+)\[(\w+)\](?::.*)?", lambda m: self.resources.update({m[1]: m[2]})),
            (r"(?:type )?(\w+)(?:\[([\w, ]+)\])? ([{\[])", lambda m: self.body(m, lines)),
            (r"(\w+) = (.*)", lambda m: self.flags.update({m[1]: split(m[2])})),
            (r"(\w+\$\w+)\((.*)\)(?: \w+)?", lambda m: self.calls.update({m[1]: split(m[2])})),
        )
        for pattern, take in patterns:
            found = re.fullmatch(pattern, line)
            if found:
                take(found)
                return
        complain(f"this line is not understood: {line}")

    def body(self, found, lines):
        name, parameters, opening = found.groups()
        fields = []
        for line in lines:
            if line.startswith("}" if opening == "{" else "]"):
                break
            field = re.fullmatch(r"\t(\w+)\t+(.*?)(?: \((?:in|out|inout)\))?", line)
            if field:
                fields.append((field[1], field[2]))
            else:
                complain(f"{name}: this field is not understood: {line}")
        if parameters:
            self.templates[name] = (split(parameters), fields)
        else:
            (self.structs if opening == "{" else self.unions)[name] = fields

    # Sizes for 64-bit; None: it has none of its own.
    def size(self, text, constants):
        name, args = words_of(text)
        if name in INTS:
            return INTS[name]
        if name in ("ptr64", "ptr", "intptr", "vma64"):
            return 8
        if name in ("const", "flags", "len", "bytesize"):
            return INTS[args[1]]
        if name in self.resources:
            return {"fd": 4}.get(self.resources[name]) or INTS[self.resources[name]]
        if name == "array":
            return self.size(args[0], constants) * int(constants.get(args[1], args[1]))
        if name == "string":
            return int(constants.get(args[1], args[1]))
        if name in self.unions:
            return max(self.size(kind, constants) for _, kind in self.unions[name])
        layout = self.layout(text, constants)
        return layout[-1][1] + layout[-1][2]

    def alignment(self, text, constants):
        name, args = words_of(text)
        if name == "array":
            return self.alignment(args[0], constants)
        if name == "string":
            return 1
        fields = self.unions.get(name) or self.fields(text)
        if fields is None:
            return self.size(text, constants)
        return max(self.alignment(kind, constants) for _, kind in fields)

    def fields(self, text):
        name, args = words_of(text)
        if name not in self.templates:
            return self.structs.get(name)
        parameters, fields = self.templates[name]
        values = dict(zip(parameters, args))
        pattern = re.compile(r"\b(" + "|".join(parameters) + r")\b")
        return [(field, pattern.sub(lambda m: values[m[1]], kind)) for field, kind in fields]

    def layout(self, text, constants):
        """(field, offset, size) of each, and at last one of nothing for the end."""
        fields = self.fields(text)
        if fields is None:
            raise ValueError(f"no such type: {text}")
        rows, at, largest = [], 0, 1
        for name, kind in fields:
            align = self.alignment(kind, constants)
            at = (at + align - 1) // align * align
            rows.append((name, at, self.size(kind, constants)))
            at += rows[-1][2]
            largest = max(largest, align)
        end = (at + largest - 1) // largest * largest
        return rows + [("", end, 0)]

    def names(self):
        """All constants that it names."""
        text = " ".join([" ".join(args) for args in self.calls.values()] +
                        [" ".join(values) for values in self.flags.values()] +
                        [kind for fields in self.every() for _, kind in fields])
        return set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", text))

    def every(self):
        yield from self.structs.values()
        yield from self.unions.values()
        for _, fields in self.templates.values():
            yield fields


# ---- the header ----

def read_header():
    """Structs with their fields, constants, calls."""
    text = re.sub(r"/\*.*?\*/", "", open(HEADER, encoding="ascii").read(), flags=re.S)
    structs = {}
    for name, body in re.findall(r"^struct (\w+) \{(.*?)^\};", text, re.S | re.M):
        structs[name] = re.findall(r"(\w+)(?:\[\w+\])?;", body)
    constants = set()
    for enum, body in re.findall(r"^enum (\w+) \{(.*?)^\};", text, re.S | re.M):
        if enum != "drm_unpu_ioctl_id":
            constants.update(re.findall(r"\b(DRM_UNPU_\w+)", body))
    constants.update(re.findall(r"^#define (DRM_UNPU_\w+)\t", text, re.M))
    calls = set(re.findall(r"^#define (DRM_IOCTL_UNPU_\w+)\t", text, re.M))
    numbers = re.search(r"^enum drm_unpu_ioctl_id \{(.*?)^\};", text, re.S | re.M).group(1)
    return structs, constants - set(COUNTERS), calls, re.findall(r"DRM_UNPU_(\w+)", numbers)


def compile_and_ask(rows):
    """rows: C expressions. Their values, or complaints."""
    program = "".join(f'#include "{name}"\n' if name == HEADER else f"#include <{name}>\n"
                      for name in INCLUDES)
    program += "#include <stddef.h>\n#include <stdio.h>\nint main(void)\n{\n"
    program += "".join(f'\tprintf("%llu\\n", (unsigned long long)({row}));\n' for row in rows)
    program += "\treturn 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ask")
        built = subprocess.run(
            [*os.environ.get("CC", "cc").split(), "-std=gnu11", "-I.", "-idirafter",
             "/usr/include/libdrm", "-x", "c", "-", "-o", path],
            input=program, capture_output=True, text=True, check=False)
        if built.returncode:
            for line in re.findall(r"error: (.*)", built.stderr) or [built.stderr]:
                complain(f"the headers: {line}")
            return None
        said = subprocess.run([path], capture_output=True, text=True, check=True).stdout
    return [int(line) for line in said.split()]


def type_of(name, known):
    """The C struct of a struct of the description, or None."""
    if name in known:
        return name
    if name.startswith("drm_unpu_"):
        complain(f"struct {name} is not in the header")
        return None
    if not name.startswith("unpu_") or name.startswith("unpu_any_"):
        return None
    rest = re.sub(r"_(in|out|export|import)$", "", name[len("unpu_"):])
    core = ("gem_", "prime_", "syncobj_")
    return ("drm_" if rest.startswith(core) else "") + rest


# ---- one against the other ----

def compare_structs(description, structs, constants):
    """Every struct's size, and the offset and size of its fields."""
    wanted, rows = [], []
    for name in list(description.structs) + list(description.templates):
        text = name
        if name in description.templates:
            # What the parameters are changes none of the sizes that the header knows.
            text = f"{name}[const[0, int32], int8]" if name in structs else None
        target = type_of(name, structs)
        if not target or not text:
            continue
        layout = description.layout(text, constants)
        if target in structs and [row[0] for row in layout[:-1]] != structs[target]:
            complain(f"{name}: its fields are not those of struct {target}")
            continue
        wanted.append((name, "size", layout[-1][1]))
        rows.append(f"sizeof(struct {target})")
        for field, offset, size in layout[:-1]:
            wanted += [(name, f"offset of {field}", offset), (name, f"size of {field}", size)]
            rows += [f"offsetof(struct {target}, {field})",
                     f"sizeof(((struct {target} *)0)->{field})"]
    answers = compile_and_ask(rows)
    for (name, what, value), answer in zip(wanted, answers or []):
        if value != answer:
            complain(f"{name}: {what} is {answer}, the description makes it {value}")
    missing = set(structs) - set(description.structs) - set(description.templates)
    for name in sorted(missing):
        complain(f"struct {name} is missing")
    return len(wanted)


def compare_calls(description, calls, numbers, values):
    used = {args[1] for args in description.calls.values() if len(args) == 3}
    for name in sorted(calls):
        if f"cmd const[{name}]" not in used or f"ioctl${name}" not in description.calls:
            complain(f"the call {name} is missing")
    for number, name in enumerate(numbers):
        if values.get(f"DRM_IOCTL_UNPU_{name}", 0) & 0xff != 0x40 + number:
            complain(f"DRM_IOCTL_UNPU_{name} has another number than its enum")
    # What a call takes is the struct whose size is in its number.
    for name, args in description.calls.items():
        found = re.fullmatch(r"arg ptr\[\w+, (\w+)\]", args[2]) if len(args) == 3 else None
        if not name.startswith("ioctl$") or not found:
            continue
        size = description.layout(found.group(1), values)[-1][1]
        command = re.fullmatch(r"cmd const\[(\w+)\]", args[1]).group(1)
        if values.get(command, 0) >> 16 & 0x3fff != size:
            complain(f"{name}: its struct has {size} bytes, its number says others")


def check_names(description):
    """What is named is there, and what is there is named."""
    texts = [kind for fields in description.every() for _, kind in fields]
    texts += [arg.split(" ", 1)[1] for args in description.calls.values() for arg in args]
    used = set(re.findall(r"\w+", " ".join(texts)))
    builtin = {"open_flags", "mmap_prot", "mmap_flags"}
    for text in texts:
        for name in re.findall(r"(?:flags|string)\[(\w+)", text):
            if name not in description.flags and name not in builtin:
                complain(f"no values named {name}")
    for kind in ("resources", "flags", "structs", "unions", "templates"):
        for name in sorted(set(getattr(description, kind)) - used):
            complain(f"{name} is used by nothing")
    # What len and bytesize count is a field beside them.
    for fields in description.every():
        names = {name for name, _ in fields}
        for name, kind in fields:
            found = re.match(r"(?:len|bytesize)\[(\w+)", kind)
            if found and found.group(1) not in names:
                complain(f"{name}: there is no {found.group(1)} to count")


def check_strides(description, values):
    """The stride that is meant to be right is the element's size."""
    for name, numbers in description.flags.items():
        found = re.fullmatch(r"unpu_any_(\w+)_stride", name)
        if found and int(numbers[0]) != description.size(f"drm_unpu_{found.group(1)}", values):
            complain(f"{name}: the first one is not the element's size")
    for fields in description.every():
        for name, kind in fields:
            found = re.fullmatch(r"drm_unpu_array\[const\[(\d+), int32\], (.*)\]", kind)
            if found and int(found.group(1)) != description.size(found.group(2), values):
                complain(f"{name}: the stride is not the size of {found.group(2)}")


def const_text(values):
    lines = ["# Code generated by tests/fuzz/unpu_txt.py --write. DO NOT EDIT.",
             "arches = amd64, arm64"]
    return "\n".join(lines + [f"{name} = {values[name]}" for name in sorted(values)]) + "\n"


def main():
    arguments = [arg for arg in sys.argv[1:] if arg != "--write"]
    path = arguments[0] if arguments else "tests/fuzz/unpu.txt"
    with open(path, encoding="ascii") as file:
        description = Description(file.read())
    structs, constants, calls, numbers = read_header()
    if len(structs) < 15 or len(calls) < 11 or len(constants) < 40:
        complain(f"{HEADER} is not understood")
    for name in sorted(constants - description.names()):
        complain(f"the constant {name} is missing")
    names = sorted(description.names())
    answers = compile_and_ask(names)
    values = dict(zip(names, answers or []))
    try:
        count = compare_structs(description, structs, values)
        compare_calls(description, calls, numbers, values)
        check_names(description)
        check_strides(description, values)
    except (ValueError, KeyError, IndexError) as error:
        complain(f"the description is not understood: {error!r}")
        count = 0
    if "--write" in sys.argv and not errors:
        with open(path + ".const", "w", encoding="ascii") as file:
            file.write(const_text(values))
    try:
        with open(path + ".const", encoding="ascii") as file:
            if file.read() != const_text(values):
                complain(f"{path}.const is not what the headers say (--write)")
    except OSError as error:
        complain(str(error))
    for error in errors:
        print(error)
    if not errors:
        print(f"{count} sizes and offsets, {len(values)} constants, "
              f"{len(description.calls)} calls: as the headers say", file=sys.stderr)
    sys.exit(1 if errors else 0)


os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
main()
