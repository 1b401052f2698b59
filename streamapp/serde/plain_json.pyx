# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
# cython: cdivision=True
"""JSON objects to columns of some of their fields, without an object for any record. Compiled.

It knows *plain* records only: objects whose declared fields are all there, once each, as numbers of
at most 64 bits, texts without escapes, ``true`` and ``false``. What it takes is valid JSON in all of
its parts, and its columns hold exactly what msgspec reads; of every other record it says "look
closer", and msgspec decides. So it never has an error of its own. ``tests/laws`` compares the two.

All bytes objects end in a zero byte, which no class of characters here contains: so a loop over one
of these classes stops at the end by itself.
"""

from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

import array

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
    char *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0
    void PyList_SET_ITEM(object of, Py_ssize_t at, PyObject *item)
    PyObject *PyList_GET_ITEM(object of, Py_ssize_t at)

cdef extern from *:
    """
    #if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the lowest byte of a word must be the first one in memory"
    #endif
    #define LOW 0x0101010101010101ull
    #define HIGH 0x8080808080808080ull
    /* Marks bytes of a word at which a plain text ends: a quote, a backslash, a control character,
       and what is no ASCII. The lowest mark is right; higher ones may not be. */
    static inline uint64_t ends_of_plain(uint64_t word) {
        uint64_t quotes = word ^ (LOW * 0x22), slashes = word ^ (LOW * 0x5C);
        return (((quotes - LOW) & ~quotes) | ((slashes - LOW) & ~slashes)
                | ((word - LOW * 0x20) & ~word) | word) & HIGH;
    }
    static inline int first_byte(uint64_t marks) { return __builtin_ctzll(marks) >> 3; }
    """
    uint64_t ends_of_plain(uint64_t word) nogil
    int first_byte(uint64_t marks) nogil

cdef enum Kind:
    INT = 0
    FLOAT = 1
    TEXT = 2
    BOOL = 3

cdef enum:
    MAX_FIELDS = 63
    #: Levels of values that are passed over; below them msgspec looks.
    MAX_DEPTH = 32
    #: Texts that a field had lately, so that the next one like it is the same object.
    CACHE_BITS = 16
    LONGEST_CACHED = 64
    #: Ways from a value to the next that are known, and words of each.
    MAX_STEPS = 64
    STEP_WORDS = 5

cdef uint64_t SPREAD = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio
cdef uint64_t EXACT = 9007199254740992  # 2**53: all smaller integers are floats

cdef struct Field:
    const char *name
    Py_ssize_t size
    int kind
    PyObject **cache

# Where the values of a field go; ``is_wanted`` or they are only looked at.
cdef struct Column:
    bint is_wanted
    int64_t *ints
    double *floats
    PyObject *objects

# The bytes from behind a value to the next one, `,"amount":`, and the field that comes then.
cdef struct Step:
    int size
    int field
    uint64_t[STEP_WORDS] words
    uint64_t[STEP_WORDS] masks

cdef uint8_t[256] PLAIN
cdef double[23] TENS


cdef void _fill_tables():
    cdef int i
    for i in range(256):
        PLAIN[i] = 0x20 <= i < 0x80 and i != 0x22 and i != 0x5C
    TENS[0] = 1.0
    for i in range(1, 23):
        TENS[i] = TENS[i - 1] * 10.0


_fill_tables()
cdef array.array _INTS = array.array("q")
cdef array.array _FLOATS = array.array("d")


# --- pieces of JSON: each returns what is behind it, NULL for "look closer" ------------------------


cdef inline bint is_digit(char c) noexcept nogil:
    return <uint8_t>(c - 0x30) < 10


cdef inline const char *skip_space(const char *p) noexcept nogil:
    while p[0] == 0x20 or p[0] == 0x0A or p[0] == 0x0D or p[0] == 0x09:
        p += 1
    return p


cdef inline const char *end_of_text(const char *p, const char *end, bint *is_ascii) noexcept nogil:
    """Return the closing quote of a text without escapes."""
    cdef uint64_t word, marks
    is_ascii[0] = True
    while True:
        while end - p >= 8:
            memcpy(&word, p, 8)
            marks = ends_of_plain(word)
            if marks:
                p += first_byte(marks)
                break
            p += 8
        else:
            while PLAIN[<uint8_t>p[0]]:
                p += 1
        if p[0] == 0x22:
            return p
        if <uint8_t>p[0] < 0x80:
            return NULL
        is_ascii[0] = False
        p += 1


cdef inline const char *end_of_digits(const char *p) noexcept nogil:
    if not is_digit(p[0]):
        return NULL
    while is_digit(p[0]):
        p += 1
    return p


cdef const char *end_of_number(const char *p) noexcept nogil:
    if p[0] == 0x2D:
        p += 1
    p = p + 1 if p[0] == 0x30 else end_of_digits(p)
    if p != NULL and p[0] == 0x2E:
        p = end_of_digits(p + 1)
    if p != NULL and (p[0] == 0x65 or p[0] == 0x45):
        p += 1
        if p[0] == 0x2B or p[0] == 0x2D:
            p += 1
        p = end_of_digits(p)
    return p


cdef bint is_utf8(const char *start, Py_ssize_t size) noexcept:
    try:
        PyUnicode_DecodeUTF8(start, size, NULL)
    except UnicodeDecodeError:
        return False
    return True


cdef const char *skip_word(const char *p) noexcept nogil:
    """Pass over true, false and null."""
    if p[0] == 0x74 and p[1] == 0x72 and p[2] == 0x75 and p[3] == 0x65:
        return p + 4
    if p[0] == 0x66 and p[1] == 0x61 and p[2] == 0x6C and p[3] == 0x73 and p[4] == 0x65:
        return p + 5
    if p[0] == 0x6E and p[1] == 0x75 and p[2] == 0x6C and p[3] == 0x6C:
        return p + 4
    return NULL


cdef const char *skip_text(const char *p, const char *end) noexcept:
    cdef bint is_ascii
    cdef const char *last
    if p[0] != 0x22:
        return NULL
    last = end_of_text(p + 1, end, &is_ascii)
    if last == NULL or not (is_ascii or is_utf8(p + 1, last - p - 1)):
        return NULL
    return last + 1


cdef const char *skip_value(const char *p, const char *end, int depth) noexcept:
    """Pass over any value."""
    cdef char opening = p[0], closing
    if opening == 0x22:
        return skip_text(p, end)
    if opening == 0x2D or is_digit(opening):
        return end_of_number(p)
    if opening != 0x7B and opening != 0x5B:
        return skip_word(p)
    if depth >= MAX_DEPTH:
        return NULL
    closing = opening + 2  # of { and of [ alike
    p = skip_space(p + 1)
    if p[0] == closing:
        return p + 1
    while True:
        if opening == 0x7B:
            p = skip_text(p, end)
            if p == NULL:
                return NULL
            p = skip_space(p)
            if p[0] != 0x3A:
                return NULL
            p = skip_space(p + 1)
        p = skip_value(p, end, depth + 1)
        if p == NULL:
            return NULL
        p = skip_space(p)
        if p[0] == closing:
            return p + 1
        if p[0] != 0x2C:
            return NULL
        p = skip_space(p + 1)


cdef inline const char *read_int(const char *p, int64_t *found) noexcept nogil:
    """Read an integer of at most 18 digits."""
    cdef bint is_negative = p[0] == 0x2D
    cdef int64_t number = 0
    cdef const char *first
    if is_negative:
        p += 1
    first = p
    while is_digit(p[0]) and p - first < 19:
        number = number * 10 + (p[0] - 0x30)
        p += 1
    if p == first or p - first > 18 or (first[0] == 0x30 and p - first > 1):
        return NULL
    found[0] = -number if is_negative else number
    return p


cdef const char *read_any_float(const char *start, double *found) noexcept:
    """Read a number with a point or an exponent by Python's own function, exact and slow."""
    cdef const char *end = end_of_number(start)
    cdef char *stop = NULL
    cdef double value
    if end == NULL:
        return NULL
    try:
        value = PyOS_string_to_double(start, &stop, NULL)
    except ValueError:
        return NULL
    if stop != end or value - value != 0:  # infinite
        return NULL
    found[0] = value
    return end


cdef inline const char *read_float(const char *p, double *found) noexcept:
    """Read a number; one of up to 16 digits is one exact integer divided by another."""
    cdef const char *start = p
    cdef const char *first
    cdef const char *point = NULL
    cdef uint64_t number = 0
    cdef bint is_negative = p[0] == 0x2D
    cdef double value
    if is_negative:
        p += 1
    first = p
    while is_digit(p[0]):
        number = number * 10 + <uint64_t>(p[0] - 0x30)
        p += 1
    if p == first or (first[0] == 0x30 and p - first > 1):
        return NULL
    if p[0] == 0x2E:
        point = p
        p += 1
        while is_digit(p[0]):
            number = number * 10 + <uint64_t>(p[0] - 0x30)
            p += 1
        if p - point == 1:
            return NULL
    if p[0] == 0x65 or p[0] == 0x45:
        return read_any_float(start, found)
    if p - first > 17 or number > EXACT:
        return NULL if point == NULL else read_any_float(start, found)
    if is_negative and not number:
        return NULL if point == NULL else read_any_float(start, found)
    value = <double>number
    if point != NULL:
        value /= TENS[p - point - 1]
    found[0] = -value if is_negative else value
    return p


# --- texts -------------------------------------------------------------------------------------


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


cdef inline object text_of(PyObject **cache, const char *start, Py_ssize_t size):
    """Return a text of ASCII; the same object for the same text, if the field had it lately.

    A dict finds such an object at once: its hash is known, and it is the key itself.
    """
    cdef PyObject **place
    if not 0 < size <= LONGEST_CACHED:
        return new_text(start, size) if size else ""
    place = cache + (hash_of(start, size) >> (64 - CACHE_BITS))
    if place[0] != NULL:
        text = <object>place[0]
        if PyUnicode_GET_LENGTH(text) == size:
            if not memcmp(PyUnicode_1BYTE_DATA(text), start, size):
                return text
    text = new_text(start, size)
    Py_INCREF(text)
    Py_XDECREF(place[0])
    place[0] = <PyObject *>text
    return text


cdef inline void put(PyObject *objects, Py_ssize_t row, object one) noexcept:
    """Put an object into a new list, at a place that nothing was put to."""
    Py_INCREF(one)
    PyList_SET_ITEM(<object>objects, row, <PyObject *>one)


# --- records -----------------------------------------------------------------------------------


cdef class PlainJson:
    """Reads records of one type. See the module.

    ``fields`` are all that the type declares: names as UTF-8 without characters that JSON escapes,
    and kinds (0 an int, 1 a float, 2 a str, 3 a bool). Longer records than ``max_bytes`` are left
    to who looks closer.
    """

    cdef Field[MAX_FIELDS] fields
    cdef int count
    cdef uint64_t all_fields
    cdef Py_ssize_t max_bytes
    cdef list names
    # The ways from value to value in the record before: most records have the same.
    cdef Step[MAX_STEPS] steps
    cdef int known

    def __init__(self, fields, Py_ssize_t max_bytes):
        cdef int i
        if not 0 < len(fields) <= MAX_FIELDS or self.count:
            raise ValueError("a type has 1 to 63 fields")
        self.max_bytes = max_bytes
        self.names = [bytes(name) for name, _ in fields]
        for i, (_, kind) in enumerate(fields):
            self.fields[i].name = PyBytes_AS_STRING(self.names[i])
            self.fields[i].size = PyBytes_GET_SIZE(self.names[i])
            self.fields[i].kind = kind
            self.all_fields |= (<uint64_t>1) << i
        self.count = len(self.names)

    def __dealloc__(self):
        cdef int i, j
        for i in range(self.count):
            if self.fields[i].cache != NULL:
                for j in range(1 << CACHE_BITS):
                    Py_XDECREF(self.fields[i].cache[j])
                free(self.fields[i].cache)

    def read(self, list values not None, uint64_t wanted):
        """Read records.

        Args:
            values: The records' bytes; whatever is none has to be looked at closer.
            wanted: The fields whose columns are returned: bit ``i`` for field ``i``.

        Returns:
            For each field its column (``array("q")`` of ints, ``array("d")`` of floats, else a
            list; ``None`` if it is not wanted), and the indices of the records to look at closer:
            what columns have there means nothing.
        """
        cdef Column[MAX_FIELDS] columns
        cdef list found = [], closer = []
        cdef Py_ssize_t row
        cdef bint is_read
        cdef int i
        for i in range(self.count):
            found.append(self.column(&columns[i], i, len(values), wanted))
        for row in range(len(values)):
            value = values[row]
            is_read = False
            if PyBytes_CheckExact(value) and PyBytes_GET_SIZE(value) <= self.max_bytes:
                is_read = self.one(
                    PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), row, columns
                )
            if not is_read:
                closer.append(row)
                for i in range(self.count):
                    if columns[i].objects != NULL and PyList_GET_ITEM(found[i], row) == NULL:
                        put(columns[i].objects, row, None)
        return found, closer

    cdef object column(self, Column *to, int i, Py_ssize_t size, uint64_t wanted):
        """Make the column of a field, if it is wanted."""
        cdef array.array numbers
        cdef list objects
        to.is_wanted = wanted >> i & 1
        to.ints = NULL
        to.floats = NULL
        to.objects = NULL
        if not to.is_wanted:
            return None
        if self.fields[i].kind == INT:
            numbers = array.clone(_INTS, size, False)
            to.ints = <int64_t *>numbers.data.as_longlongs
            return numbers
        if self.fields[i].kind == FLOAT:
            numbers = array.clone(_FLOATS, size, False)
            to.floats = numbers.data.as_doubles
            return numbers
        if self.fields[i].kind == TEXT and self.fields[i].cache == NULL:
            self.fields[i].cache = <PyObject **>calloc(1 << CACHE_BITS, sizeof(PyObject *))
            if self.fields[i].cache == NULL:
                raise MemoryError
        objects = PyList_New(size)
        to.objects = <PyObject *>objects
        return objects

    cdef bint one(
        self, const char *p, Py_ssize_t size, Py_ssize_t row, Column *columns
    ) except -1:
        """Read a record; ``False`` if it has to be looked at closer."""
        cdef const char *end = p + size
        cdef uint64_t seen = 0
        cdef int i, number = 0
        while True:
            if not self.is_known(&p, end, number, &i) and not self.learn(&p, end, number, &i):
                return False
            number += 1
            if i < 0:
                p = skip_value(p, end, 1)
            elif seen >> i & 1:
                return False  # the last one counts
            else:
                seen |= (<uint64_t>1) << i
                p = self.value(p, end, i, row, &columns[i])
            if p == NULL:
                return False
            p = skip_space(p)
            if p[0] == 0x7D:
                return skip_space(p + 1) == end and seen == self.all_fields
            if p[0] != 0x2C:
                return False

    cdef inline bint is_known(self, const char **at, const char *end, int number, int *field):
        """Go to the next value if all bytes on the way are those of the record before."""
        cdef const char *p = at[0]
        cdef Step *step
        cdef uint64_t word, differs = 0
        cdef int n = 0
        if number >= self.known:
            return False
        step = &self.steps[number]
        if end - p >= 8 * STEP_WORDS:
            while n * 8 < step.size:
                memcpy(&word, p + 8 * n, 8)
                differs |= (word ^ step.words[n]) & step.masks[n]
                n += 1
        else:
            differs = end - p < step.size or memcmp(p, step.words, step.size)
        if differs:
            return False
        at[0] = skip_space(p + step.size)
        field[0] = step.field
        return True

    cdef bint learn(self, const char **at, const char *end, int number, int *field):
        """Go to the next value, and note the way; ``False``: look closer."""
        cdef const char *begin = at[0]
        cdef const char *p = skip_space(begin)
        cdef const char *last
        cdef bint is_ascii
        cdef Step *step
        if p[0] != (0x2C if number else 0x7B):
            return False
        p = skip_space(p + 1)
        if p[0] != 0x22:
            return False
        last = end_of_text(p + 1, end, &is_ascii)
        if last == NULL or not is_ascii:
            return False
        field[0] = self.field_of(p + 1, last - p - 1)
        p = skip_space(last + 1)
        if p[0] != 0x3A:
            return False
        p = at[0] = skip_space(p + 1)
        if number <= self.known and number < MAX_STEPS:
            self.known = number  # what follows may be another way
            if p - begin <= 8 * STEP_WORDS:
                step = &self.steps[number]
                memset(step, 0, sizeof(Step))
                memcpy(step.words, begin, p - begin)
                memset(step.masks, 0xFF, p - begin)
                step.size = p - begin
                step.field = field[0]
                self.known = number + 1
        return True

    cdef int field_of(self, const char *name, Py_ssize_t size) noexcept:
        """Return the number of a field, negative if the type declares none of that name."""
        cdef int i
        for i in range(self.count):
            if self.fields[i].size == size and not memcmp(self.fields[i].name, name, size):
                return i
        return -1

    cdef inline const char *value(
        self, const char *p, const char *end, int i, Py_ssize_t row, Column *column
    ) except? NULL:
        """Read the value of a field into its column."""
        cdef int64_t whole
        cdef double real
        cdef int kind = self.fields[i].kind
        if kind == INT:
            p = read_int(p, &whole)
            if p != NULL and column.is_wanted:
                column.ints[row] = whole
            return p
        if kind == FLOAT:
            p = read_float(p, &real)
            if p != NULL and column.is_wanted:
                column.floats[row] = real
            return p
        if kind == TEXT:
            return self.text(p, end, i, row, column)
        if p[0] != 0x74 and p[0] != 0x66:
            return NULL
        if column.is_wanted:
            put(column.objects, row, p[0] == 0x74)
        return skip_word(p)

    cdef inline const char *text(
        self, const char *p, const char *end, int i, Py_ssize_t row, Column *column
    ) except? NULL:
        cdef bint is_ascii
        cdef const char *last
        if p[0] != 0x22:
            return NULL
        p += 1
        last = end_of_text(p, end, &is_ascii)
        if last == NULL:
            return NULL
        if is_ascii:
            if column.is_wanted:
                put(column.objects, row, text_of(self.fields[i].cache, p, last - p))
            return last + 1
        try:
            text = PyUnicode_DecodeUTF8(p, last - p, NULL)
        except UnicodeDecodeError:
            return NULL
        if column.is_wanted:
            put(column.objects, row, text)
        return last + 1
