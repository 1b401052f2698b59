# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Texts of ASCII for ``plain_json`` alone: the same object for a text that a field had lately.

A dict finds such an object at once: its hash is known, and it is the key itself.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    char *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void PyList_SET_ITEM(object of, Py_ssize_t at, PyObject *item)

cdef extern from *:
    """
    #define SPREAD 0x9E3779B97F4A7C15ull /* 2**64 divided by the golden ratio */
    /* Asks for memory that is used soon, if it is any; a text begins behind 48 bytes of an object. */
    static inline void fetch(const void *at) {
        __builtin_prefetch(at);
        __builtin_prefetch((const void *)((size_t)at + 56));
    }
    """
    const uint64_t SPREAD
    void fetch(const void *at) nogil

cdef enum:
    #: Texts that a field keeps, and how long they are at most.
    PLACE_BITS = 16
    PLACES = 1 << 16
    LONGEST_CACHED = 64
    #: Texts that wait for memory: more than one record of a few fields, a power of two.
    WAITING = 16

# A text that is found and not yet made, where it goes, and its place in the cache of its field.
cdef struct Waiting:
    const char *start
    Py_ssize_t size
    Py_ssize_t row
    PyObject *objects
    PyObject **place


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


cdef inline object new_text(const char *start, Py_ssize_t size):
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_1BYTE_DATA(text), start, size)
    return text


cdef inline bint is_cached(Py_ssize_t size) noexcept nogil:
    return 0 < size <= LONGEST_CACHED


cdef inline PyObject **place_of(PyObject **cache, const char *start, Py_ssize_t size) noexcept nogil:
    return cache + (hash_of(start, size) >> (64 - PLACE_BITS))


cdef inline object text_at(PyObject **place, const char *start, Py_ssize_t size):
    """Return the text of a place if it is the same, else a new one that takes the place."""
    cdef PyObject *before = place[0]
    if before != NULL:
        text = <object>before
        if PyUnicode_GET_LENGTH(text) == size:
            if not memcmp(PyUnicode_1BYTE_DATA(text), start, size):
                return text
    text = new_text(start, size)
    Py_INCREF(text)
    place[0] = <PyObject *>text
    Py_XDECREF(before)
    return text


cdef inline void put(PyObject *objects, Py_ssize_t row, object one) noexcept:
    """Put an object into a new list, at a place that nothing was put to."""
    Py_INCREF(one)
    PyList_SET_ITEM(<object>objects, row, <PyObject *>one)


cdef inline int put_text(Waiting *one) except -1:
    put(one.objects, one.row, text_at(one.place, one.start, one.size))
    return 0
