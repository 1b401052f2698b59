# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Texts by number, for ``plain_json`` alone: the same number for a text that a field had lately.

A number stands for the object at its place in a list, which only grows; number 0 is the empty text.
Short texts are looked up without a look at any object: where they are kept is one line of memory.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

cdef extern from "stdlib.h":
    void *aligned_alloc(size_t alignment, size_t size) nogil

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    char *PyUnicode_1BYTE_DATA(object text)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    PyObject *PyList_GET_ITEM(object of, Py_ssize_t at)

cdef extern from *:
    """
    #define SPREAD 0x9E3779B97F4A7C15ull /* 2**64 divided by the golden ratio */
    static inline void fetch(const void *at) { __builtin_prefetch(at); }
    """
    const uint64_t SPREAD
    void fetch(const void *at) nogil

cdef enum:
    #: A text has one of the places of a set, chosen by its hash.
    SET_BITS = 14
    SETS = 1 << 14
    WAYS = 4
    #: Bytes of a text that is kept in its place, and of one that is compared with its object.
    SHORT = 27
    LONGEST_KEPT = 255
    #: Says that the text of a place is longer than ``SHORT``.
    IS_LONG = 255
    #: A list with more texts, or more bytes of them, is left to its columns; another one begins.
    MOST_TEXTS = 1 << 16
    MOST_BYTES = 1 << 22
    #: Texts that wait until their places have come out of memory; a power of two.
    WAITING = 8

# Half a line of memory; a ``code`` of 0 is no text.
cdef struct Place:
    int32_t code
    uint8_t size
    char[SHORT] text

# The latest text comes first.
cdef struct Set:
    Place[WAYS] places

# The texts of a field: ``objects`` is the list, ``sets`` say which of them are found again.
cdef struct Texts:
    Set *sets
    PyObject *objects
    Py_ssize_t kept_bytes

# A text whose number is not known yet, and where that goes.
cdef struct Waiting:
    Texts *texts
    Set *set
    const char *start
    Py_ssize_t size
    bint is_ascii
    int32_t *code


cdef inline int begin(Texts *texts) except -1:
    """Be ready for a batch: there is a list, and room in it."""
    cdef list objects
    if texts.objects != NULL:
        if len(<list>texts.objects) <= MOST_TEXTS and texts.kept_bytes <= MOST_BYTES:
            return 0
    if texts.sets == NULL:
        texts.sets = <Set *>aligned_alloc(sizeof(Set), SETS * sizeof(Set))
        if texts.sets == NULL:
            raise MemoryError
    objects = [""]
    memset(texts.sets, 0, SETS * sizeof(Set))
    Py_INCREF(objects)
    Py_XDECREF(texts.objects)
    texts.objects = <PyObject *>objects
    texts.kept_bytes = 0
    return 0


cdef inline uint64_t hash_of(const char *start, Py_ssize_t size) noexcept nogil:
    cdef uint64_t mixed = <uint64_t>size * SPREAD, word
    while size >= 8:
        memcpy(&word, start, 8)
        mixed = (mixed ^ word) * SPREAD
        mixed ^= mixed >> 32
        start += 8
        size -= 8
    word = 0
    while size:
        word = word << 8 | <uint8_t>start[0]
        start += 1
        size -= 1
    mixed = (mixed ^ word) * SPREAD
    return (mixed ^ mixed >> 32) * SPREAD


cdef inline bint is_at(Place *place, list objects, const char *start, Py_ssize_t size) except -1:
    """Tell whether a place has this text."""
    cdef const char *known
    cdef Py_ssize_t length
    if size <= SHORT:
        return place.size == size and not memcmp(place.text, start, size)
    if place.size != IS_LONG:
        return False
    known = PyUnicode_AsUTF8AndSize(<object>PyList_GET_ITEM(objects, place.code), &length)
    return length == size and not memcmp(known, start, size)


cdef inline Set *set_of(Texts *texts, const char *start, Py_ssize_t size) noexcept nogil:
    """Return where a text is if it was seen lately; ``NULL``: it is not kept."""
    if not 0 < size <= LONGEST_KEPT:
        return NULL
    return texts.sets + (hash_of(start, size) >> (64 - SET_BITS))


cdef inline int32_t code_of(
    Texts *texts, Set *set, const char *start, Py_ssize_t size, bint is_ascii
) except -1:
    """Return the number of a text; it is valid UTF-8."""
    cdef list objects = <list>texts.objects
    cdef Place *place
    cdef int32_t code
    cdef int way
    if not size:
        return 0
    for way in range(WAYS if set != NULL else 0):
        place = &set.places[way]
        if not place.code:
            break
        if is_at(place, objects, start, size):
            return place.code
    if is_ascii:
        text = PyUnicode_New(size, 127)
        memcpy(PyUnicode_1BYTE_DATA(text), start, size)
    else:
        text = PyUnicode_DecodeUTF8(start, size, NULL)
    code = <int32_t>len(objects)
    objects.append(text)
    texts.kept_bytes += size
    if set != NULL:
        memmove(&set.places[1], &set.places[0], (WAYS - 1) * sizeof(Place))
        place = &set.places[0]
        place.code = code
        place.size = <uint8_t>size if size <= SHORT else IS_LONG
        if size <= SHORT:
            memcpy(place.text, start, size)
    return code


cdef inline int put_code(Waiting *one) except -1:
    one.code[0] = code_of(one.texts, one.set, one.start, one.size, one.is_ascii)
    return 0
