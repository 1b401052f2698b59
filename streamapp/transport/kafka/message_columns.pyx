# cython: language_level=3, wraparound=False
"""Columns of the messages of a consumer, read as Python's methods of a message read them. Compiled.

The methods are called as the interpreter calls them, but without it: two fifths of the time of
``map`` for each of them. ``runs.py`` has the same in Python; ``tests/unit`` compares the two.
"""

from cpython cimport array
from cpython.object cimport PyObject

from confluent_kafka import Message

# A method in C that takes no arguments: the object, and NULL.
ctypedef object (*Getter)(object, PyObject *)

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        void *ml_meth
        int ml_flags
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    int METH_NOARGS


cdef Getter getter(str name) except NULL:
    """Return the method of a message; a client that has another kind is read by Python."""
    method = getattr(Message, name)
    if type(method) is not type(str.upper):
        raise ImportError(f"Message.{name} is not a method in C")
    cdef PyMethodDef *found = (<PyMethodDescrObject *>method).d_method
    if found.ml_flags != METH_NOARGS:
        raise ImportError(f"Message.{name} takes arguments")
    return <Getter>found.ml_meth


cdef Getter error_of = getter("error")
cdef Getter topic_of = getter("topic")
cdef Getter partition_of = getter("partition")
cdef Getter offset_of = getter("offset")
cdef Getter timestamp_of = getter("timestamp")
cdef Getter key_of = getter("key")
cdef Getter value_of = getter("value")
cdef Getter headers_of = getter("headers")


def take_run(list messages not None, Py_ssize_t start, tuple columns not None):
    """Append the messages from ``start`` on that are of one partition, up to an error.

    Args:
        messages: Those of a consumer; the one at ``start`` is no error.
        start: The first one to take.
        columns: Those that grow; see ``runs.Columns``.

    Returns:
        Where the run ends, and the bytes of its keys and values.
    """
    cdef array.array offsets, timestamps
    cdef list keys, values, headers
    if None in columns:
        raise TypeError("a column is missing")
    offsets, timestamps, keys, values, headers = columns
    cdef Py_ssize_t at = start, end = len(messages), size = 0
    cdef Py_ssize_t first = len(offsets)
    cdef Py_ssize_t room = first + end - start
    if not 0 <= start < end:
        raise IndexError(start)
    if offsets.typecode != "q" or timestamps.typecode != "q" or len(timestamps) != first:
        raise ValueError("the columns of numbers are two of array('q'), equally long")
    array.resize(offsets, room)
    array.resize(timestamps, room)
    topic = partition = None
    try:
        while at < end:
            message = messages[at]
            if type(message) is not Message:
                raise TypeError(f"no message of a consumer: {message!r}")
            if error_of(message, NULL) is not None:
                break
            if at == start:
                topic, partition = topic_of(message, NULL), partition_of(message, NULL)
            elif partition_of(message, NULL) != partition or topic_of(message, NULL) != topic:
                break
            offsets.data.as_longlongs[first + at - start] = offset_of(message, NULL)
            timestamps.data.as_longlongs[first + at - start] = timestamp_of(message, NULL)[1]
            key = key_of(message, NULL)
            value = value_of(message, NULL)
            if key is not None:
                size += len(<bytes?>key)
            if value is not None:
                size += len(<bytes?>value)
            keys.append(key)
            values.append(value)
            headers.append(headers_of(message, NULL))
            at += 1
    finally:
        array.resize(offsets, first + at - start)
        array.resize(timestamps, first + at - start)
    return at, size
