"""What is read of a kernel's types; that bytes which are no BTF are said to be none."""

from __future__ import annotations

import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pte_trace.kernel.btf import BTF, BTFError, Member
from tests.btf_writer import HEADER_SIZE, VOID, BTFWriter, Field, blob_of

pytestmark = pytest.mark.timeout(20)


def sample() -> BTFWriter:
    """Types of each kind. `struct outer` is, in C:

    struct outer {
        u32 first;                                  /* byte 0 */
        union {
            struct { u64 inside; u8 letters[5]; };  /* bytes 8 and 16 */
            struct inner *other;                    /* byte 8 */
        };
        const count_t constant;                     /* byte 24 */
        struct inner nested;                        /* byte 32 */
        struct inner several[3];                    /* byte 48 */
        struct later *later;                        /* byte 96 */
        void *anything;                             /* byte 104 */
    };
    """
    write = BTFWriter()
    u8 = write.integer("u8", 1)
    u32 = write.integer("u32", 4)
    u64 = write.integer("u64", 8)
    count_t = write.typedef("count_t", write.typedef("u32_t", u32))
    inner = write.struct("inner", Field("x", u32), Field("y", u64))
    letters = write.array(u8, 5)
    unnamed = write.struct("", Field("inside", u64), Field("letters", letters))
    either = write.union("", Field("", unnamed), Field("other", write.pointer(inner)))
    write.struct(
        "outer",
        Field("first", u32),
        Field("", either),
        Field("constant", write.const(count_t)),
        Field("nested", inner),
        Field("several", write.array(inner, 3)),
        Field("later", write.pointer_to_struct("later")),
        Field("anything", write.pointer(VOID)),
    )
    write.struct("later", Field("only", u8))
    write.struct("flags", Field("low", u32, 3), Field("high", u32, 5), Field("whole", u64))
    write.enum("colour", {"RED": 1, "GREEN": 7})
    write.function("mix", Field("one", u32), Field("two", u64))
    write.function("nothing")
    return write


def member(path: str, owner: str = "outer") -> Member | None:
    return BTF(sample().blob()).member(owner, path)


def ask_everything(btf: BTF) -> None:
    for owner in ("outer", "inner", "later", "flags", "absent"):
        btf.struct_size(owner)
        for path in ("first", "letters", "other", "constant", "nested.y", "several", "later", "x"):
            btf.member(owner, path)
    for function in ("mix", "nothing", "absent"):
        btf.parameters(function)
        btf.function_id(function)
    btf.enumerators("colour")


def test_a_member_is_found_at_its_offset() -> None:
    assert member("first") == Member(offset=0, size=4)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("inside", Member(offset=8, size=8)),
        ("letters", Member(offset=16, size=5)),
        ("other", Member(offset=8, size=8, points_to="struct inner")),
    ],
)
def test_a_member_of_an_unnamed_union_is_found_by_its_own_name(path: str, expected: Member) -> None:
    assert member(path) == expected


def test_a_dot_leads_into_an_embedded_struct() -> None:
    assert member("nested.y") == Member(offset=40, size=8)


def test_a_dot_does_not_lead_through_a_pointer() -> None:
    assert member("later.only") is None


def test_an_embedded_struct_is_known_by_its_name() -> None:
    assert member("nested") == Member(offset=32, size=16, embeds="inner")


def test_typedefs_and_qualifiers_are_looked_through() -> None:
    assert member("constant") == Member(offset=24, size=4)


def test_an_array_is_as_large_as_its_elements_together() -> None:
    assert member("several") == Member(offset=48, size=48)


def test_a_pointer_may_lead_to_a_type_that_comes_later() -> None:
    assert member("later") == Member(offset=96, size=8, points_to="struct later")


def test_a_pointer_to_void_is_a_pointer() -> None:
    assert member("anything") == Member(offset=104, size=8, points_to="void")


def test_a_pointer_to_const_void_is_a_pointer() -> None:
    write = BTFWriter()
    write.struct("holder", Field("data", write.pointer(write.const(VOID))))
    assert BTF(write.blob()).member("holder", "data") == Member(0, 8, points_to="void")


def test_a_struct_with_bitfields_keeps_its_other_members() -> None:
    assert member("whole", "flags") == Member(offset=8, size=8)


def test_a_bitfield_that_begins_with_a_byte_is_found_there() -> None:
    assert member("low", "flags") == Member(offset=0, size=4)


def test_a_bitfield_that_begins_within_a_byte_has_no_offset() -> None:
    assert member("high", "flags") is None


def test_the_size_of_a_struct_includes_its_padding() -> None:
    btf = BTF(sample().blob())
    assert btf.struct_size("outer") == 112
    assert btf.struct_size("inner") == 16


def test_a_function_has_its_parameters_in_order() -> None:
    btf = BTF(sample().blob())
    assert btf.parameters("mix") == ("one", "two")
    assert btf.parameters("nothing") == ()


def test_a_function_is_known_by_its_type_id() -> None:
    write = sample()
    expected = write.function("last")
    assert BTF(write.blob()).function_id("last") == expected


def test_a_struct_is_known_by_its_type_id() -> None:
    write = sample()
    expected = write.struct("last")
    assert BTF(write.blob()).struct_id("last") == expected
    assert BTF(write.blob()).struct_id("mix") is None


def test_the_first_type_can_be_found() -> None:
    write = BTFWriter()
    assert write.function_of("first", VOID) == 1
    assert BTF(write.blob()).function_id("first") == 1


def test_an_enum_has_names_and_values() -> None:
    assert BTF(sample().blob()).enumerators("colour") == {"RED": 1, "GREEN": 7}


def test_a_name_is_not_found_as_part_of_another() -> None:
    btf = BTF(sample().blob())
    assert btf.struct_size("out") is None
    assert btf.struct_size("uter") is None
    assert member("let") is None


def test_a_name_of_another_kind_is_another_thing() -> None:
    btf = BTF(sample().blob())
    assert btf.parameters("outer") is None
    assert btf.struct_size("mix") is None
    assert btf.enumerators("outer") == {}


def test_words_that_look_like_a_type_are_none() -> None:
    """Types are found by the offset of their name, which other words may equal."""
    write = BTFWriter()
    write.enum("misleading", {"wanted": 12 << 24})  # as a function called `wanted` begins
    assert BTF(write.blob()).function_id("wanted") is None


def test_what_is_absent_is_none() -> None:
    btf = BTF(sample().blob())
    assert btf.struct_size("absent") is None
    assert btf.member("absent", "first") is None
    assert btf.member("outer", "absent") is None
    assert btf.member("outer", "nested.absent") is None
    assert btf.parameters("absent") is None
    assert btf.function_id("absent") is None
    assert btf.enumerators("absent") == {}


def test_what_gcc_writes_is_read(tmp_path: Path) -> None:
    source = tmp_path / "types.c"
    source.write_text(
        """
        struct leaf { char kind; const void *data; };
        struct tree {
            unsigned low : 3, high : 7;
            union { struct { long left, right; }; struct leaf *leaf; };
            struct leaf leaves[2], last;
        } tree;
        int grow(struct tree *tree, long by) { return by; }
        """
    )
    binary, section = tmp_path / "types.o", tmp_path / "types.btf"
    compiled = subprocess.run(["gcc", "-gbtf", "-c", source, "-o", binary], check=False)
    if compiled.returncode:
        pytest.skip("this gcc does not know -gbtf (gcc 12 does)")
    copy = ["objcopy", "-O", "binary", "--only-section=.BTF", "--set-section-flags", ".BTF=alloc"]
    subprocess.run([*copy, binary, section], check=True)
    btf = BTF(section.read_bytes())
    assert btf.member("tree", "right") == Member(16, 8)
    assert btf.member("tree", "leaf") == Member(8, 8, points_to="struct leaf")
    assert btf.member("tree", "leaves") == Member(24, 32)
    assert btf.member("tree", "last.kind") == Member(56, 1)
    assert btf.struct_size("tree") == 72
    assert btf.parameters("grow") == ("tree", "by")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "shorter than its header"),
        (b"\x7fELF" + bytes(60), "does not begin as BTF"),
        (b"\xeb\x9f" + bytes(60), "does not begin as BTF"),
        (b"\x9f\xeb\x02" + bytes(60), "does not begin as BTF"),
        (blob_of(bytes(12), b"\0"), "type 1 is of kind 0"),
        (blob_of(struct.pack("<3I", 0, 31 << 24, 0), b"\0"), "type 1 is of kind 31"),
        (blob_of(struct.pack("<3I", 0, 4 << 24 | 1, 8), b"\0"), "last type is cut off"),
        (blob_of(b"", b""), "string section is not delimited"),
        (blob_of(b"", b"\0name"), "string section is not delimited"),
        (blob_of(b"\0\0", b"\0"), "sections do not fit"),
    ],
)
def test_what_is_no_btf_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BTFError, match=said):
        BTF(data)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    blob = sample().blob()
    for length in range(len(blob)):
        with pytest.raises(BTFError):
            BTF(blob[:length])


def test_types_cut_off_anywhere_are_refused_or_answered() -> None:
    types, strings = sample().sections()
    for length in range(0, len(types), 4):
        with suppress(BTFError):
            ask_everything(BTF(blob_of(types[:length], strings)))


def test_strings_cut_off_anywhere_are_refused_or_answered() -> None:
    types, strings = sample().sections()
    for length in range(len(strings)):
        with suppress(BTFError):
            ask_everything(BTF(blob_of(types, strings[:length])))


@settings(max_examples=200)
@given(
    flips=st.lists(
        st.tuples(st.integers(HEADER_SIZE, len(sample().blob()) - 1), st.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_bytes_changed_anywhere_are_refused_or_answered(flips: list[tuple[int, int]]) -> None:
    blob = bytearray(sample().blob())
    for position, byte in flips:
        blob[position] = byte
    with suppress(BTFError):
        ask_everything(BTF(bytes(blob)))


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused_or_answered(data: bytes) -> None:
    with suppress(BTFError):
        ask_everything(BTF(data))
    with suppress(BTFError):
        ask_everything(BTF(blob_of(data, b"\0outer\0mix\0colour\0first\0")))


def test_a_typedef_of_itself_is_refused() -> None:
    write = BTFWriter()
    loop = write.typedef("loop", write.next_id)
    write.struct("holder", Field("looped", loop))
    with pytest.raises(BTFError, match="nested without end"):
        BTF(write.blob()).member("holder", "looped")


def test_an_array_of_itself_is_refused() -> None:
    write = BTFWriter()
    loop = write.array(write.next_id, 2)
    write.struct("holder", Field("looped", loop))
    with pytest.raises(BTFError, match="nested without end"):
        BTF(write.blob()).member("holder", "looped")


@pytest.mark.timeout(2)
@pytest.mark.parametrize("copies", [1, 2])
def test_a_struct_within_itself_is_refused_or_answered(copies: int) -> None:
    write = BTFWriter()
    itself = [Field("", write.next_id)] * copies
    write.struct("loop", *itself)
    with suppress(BTFError):
        assert BTF(write.blob()).member("loop", "absent") is None


@pytest.mark.timeout(2)
def test_structs_with_two_of_the_next_inside_are_looked_into_once() -> None:
    write = BTFWriter()
    inner = write.union("", Field("only", write.integer("u8", 1)))
    for _ in range(40):
        inner = write.union("", Field("", inner), Field("", inner))
    write.struct("outer", Field("", inner))
    btf = BTF(write.blob())
    assert btf.member("outer", "absent") is None
    assert btf.member("outer", "only") == Member(0, 1)


def test_structs_in_structs_without_end_are_refused() -> None:
    write = BTFWriter()
    inner = write.integer("u8", 1)
    for _ in range(2000):
        inner = write.struct("", Field("", inner))
    write.struct("outer", Field("", inner))
    with pytest.raises(BTFError, match="nested without end"):
        BTF(write.blob()).member("outer", "absent")


def test_a_function_whose_prototype_is_none_is_refused_or_answered() -> None:
    write = BTFWriter()
    prototype = struct.pack("<4I", 0, 1 << 24 | 0xFFFF, 4, 0)  # an int that claims 65535 entries
    function = write.function_of("odd", write.next_id + 1)
    assert function == 1
    types, strings = write.sections()
    with suppress(BTFError):
        BTF(blob_of(types + prototype, strings)).parameters("odd")


def test_an_error_says_how_to_mend_it() -> None:
    with pytest.raises(BTFError) as caught:
        BTF(b"")
    assert caught.value.what.startswith("The kernel's type information (BTF) cannot be read: ")
    assert "running kernel" in caught.value.mend


def test_whether_a_function_takes_a_struct_is_seen_through_its_typedef() -> None:
    write = BTFWriter()
    u64 = write.integer("long unsigned int", 8)
    pte_t = write.typedef("pte_t", write.struct("", Field("pte", u64)))
    write.function("by_value", Field("number", u64), Field("entry", write.const(pte_t)))
    write.function("by_address", Field("entry", write.pointer(pte_t)))
    types = BTF(write.blob())
    assert types.takes_structs("by_value") is True
    assert types.takes_structs("by_address") is False
    assert types.takes_structs("not there") is False
