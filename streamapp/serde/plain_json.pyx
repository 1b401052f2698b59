# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""JSON objects to columns of some of their fields, without an object for any record. Compiled.

It knows *plain* records only: objects whose declared fields are there, once each, as numbers of at
most 64 bits, texts without escapes, ``true`` and ``false``; those of which no column is wanted may be
null or missing where the type says so. What it takes is valid JSON in all of
its parts, and its columns hold exactly what msgspec reads; of every other record it says "look
closer", and msgspec decides. So it never has an error of its own. ``tests/laws`` compares the two.

How bytes are read is in ``plain_json_pieces.pxd``.
"""

cimport cython
from cpython cimport array
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset
from streamapp.serde.plain_json_pieces cimport (
    COLON,
    COMMA,
    BRACE,
    END_BRACE,
    LETTER_N,
    QUOTE,
    end_of_text,
    read_float,
    read_int,
    skip_space,
    skip_value,
    skip_word,
)
from streamapp.serde.plain_json_texts cimport (
    WAITING,
    Texts,
    Waiting,
    begin,
    fetch,
    put_code,
    set_of,
)

import array

from streamapp.core.text_column import TextColumn

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object of, Py_ssize_t at)
    void PyList_SET_ITEM(object of, Py_ssize_t at, PyObject *item)
    void PyObject_GC_Track(object of)
    void PyObject_GC_UnTrack(object of)

cdef enum Kind:
    INT = 0
    FLOAT = 1
    TEXT = 2
    BOOL = 3

cdef enum:
    MAY_BE_NULL = 1
    MAY_BE_MISSING = 2

cdef enum:
    MAX_FIELDS = 63
    #: Ways from a value to the next that are known, and words of each.
    MAX_STEPS = 64
    STEP_WORDS = 5

cdef struct Field:
    const char *name
    Py_ssize_t size
    int kind
    bint is_nullable
    Texts texts

# Where the values of a field go; ``is_wanted`` or they are only looked at.
cdef struct Column:
    bint is_wanted
    int64_t *ints
    double *floats
    int32_t *codes
    PyObject *objects

# The bytes from behind a value to the next one, `,"amount":`, and the field that comes then.
cdef struct Step:
    int size
    int field
    uint64_t[STEP_WORDS] words
    uint64_t[STEP_WORDS] masks

cdef array.array _INTS = array.array("q")
cdef array.array _FLOATS = array.array("d")
cdef array.array _CODES = array.array("i")


cdef inline void put(PyObject *objects, Py_ssize_t row, object one) noexcept:
    """Put an object into a new list, at a place that nothing was put to."""
    Py_INCREF(one)
    PyList_SET_ITEM(<object>objects, row, <PyObject *>one)


# It holds bytes only, which lead back to nothing; a collector that cleared it would free the names.
@cython.no_gc
@cython.final
cdef class PlainJson:
    """Reads records of one type. See the module.

    ``fields`` are all that the type declares: names as UTF-8, kinds (0 an int, 1 a float, 2 a str,
    3 a bool), and what else there may be (the sum of 1: null, 2: nothing). A name that JSON escapes
    is never found. Longer records than ``max_bytes`` are left to who looks closer.
    """

    cdef Field[MAX_FIELDS] fields
    cdef int count
    cdef uint64_t all_fields, optional
    cdef Py_ssize_t max_bytes
    cdef list names
    # The ways from value to value in the record before: most records have the same.
    cdef Step[MAX_STEPS] steps
    cdef int known
    # The end of the record in hand.
    cdef const char *end
    # Texts whose numbers are found some texts later, from ``first`` up to ``last``.
    cdef Waiting[WAITING] waiting
    cdef unsigned int first, last

    def __init__(self, fields, Py_ssize_t max_bytes):
        cdef list pairs = list(fields)
        cdef int i
        if not 0 < len(pairs) <= MAX_FIELDS or self.count:
            raise ValueError("a type has 1 to 63 fields")
        names = [bytes(name) for name, _, _ in pairs]
        kinds = [int(kind) for _, kind, _ in pairs]
        others = [int(other) for _, _, other in pairs]
        if not {INT, FLOAT, TEXT, BOOL}.issuperset(kinds):
            raise ValueError("a kind is one of 0 to 3")
        if not {0, 1, 2, 3}.issuperset(others):
            raise ValueError("what else there may be is one of 0 to 3")
        self.max_bytes = max_bytes
        self.names = names
        self.count = len(names)
        self.all_fields = (<uint64_t>1 << self.count) - 1
        for i in range(self.count):
            self.fields[i].name = PyBytes_AS_STRING(names[i])
            self.fields[i].size = PyBytes_GET_SIZE(names[i])
            self.fields[i].kind = kinds[i]
            self.fields[i].is_nullable = others[i] & MAY_BE_NULL
            if others[i] & MAY_BE_MISSING:
                self.optional |= (<uint64_t>1) << i

    def __dealloc__(self):
        cdef int i
        for i in range(self.count):
            Py_XDECREF(self.fields[i].texts.objects)
            free(self.fields[i].texts.sets)

    def read(self, list values not None, uint64_t wanted):
        """Read records.

        Args:
            values: The records' bytes; whatever is none has to be looked at closer.
            wanted: The fields whose columns are returned: bit ``i`` for field ``i``.

        Returns:
            For each field its column (``array("q")`` of ints, ``array("d")`` of floats, a
            ``TextColumn``, a list of booleans; ``None`` if it is not wanted), and the indices of the records to look at closer:
            what columns have there means nothing.
        """
        cdef Column[MAX_FIELDS] columns
        cdef list found = [], closer = []
        cdef Py_ssize_t row, size = len(values)
        cdef uint64_t required = self.all_fields & (wanted | ~self.optional)
        cdef bint is_read
        cdef int i
        for i in range(self.count):
            found.append(self.column(&columns[i], i, size, wanted))
        # New lists may have started the collector, and that any code. From here there is none.
        if len(values) != size or not self.has_texts_of(found):
            raise RuntimeError("the values changed while they were read")
        self.first = self.last = 0
        for row in range(size):
            value = values[row]
            is_read = False
            if PyBytes_CheckExact(value) and PyBytes_GET_SIZE(value) <= self.max_bytes:
                self.end = PyBytes_AS_STRING(value) + PyBytes_GET_SIZE(value)
                is_read = self.one(PyBytes_AS_STRING(value), row, columns, required)
            if not is_read:
                self.finish(0)
                closer.append(row)
                self.fill(row, columns)
        self.finish(0)
        for i in range(self.count):
            if columns[i].objects != NULL:
                PyObject_GC_Track(<object>columns[i].objects)
        return found, closer

    cdef bint has_texts_of(self, list found) except -1:
        """Tell whether the lists of texts are those of the columns."""
        cdef int i
        for i in range(self.count):
            if self.fields[i].kind == TEXT and found[i] is not None:
                if found[i].texts is not <list>self.fields[i].texts.objects:
                    return False
        return True

    cdef void fill(self, Py_ssize_t row, Column *columns) noexcept:
        """Leave no place without an object."""
        cdef int i
        for i in range(self.count):
            if columns[i].codes != NULL:
                columns[i].codes[row] = 0
            if columns[i].objects != NULL:
                if PyList_GET_ITEM(<object>columns[i].objects, row) == NULL:
                    put(columns[i].objects, row, None)

    cdef object column(self, Column *to, int i, Py_ssize_t size, uint64_t wanted):
        """Make the column of a field, if it is wanted."""
        cdef array.array numbers
        cdef list objects
        memset(to, 0, sizeof(Column))
        to.is_wanted = wanted >> i & 1
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
        if self.fields[i].kind == TEXT:
            begin(&self.fields[i].texts)
            numbers = array.clone(_CODES, size, False)
            to.codes = <int32_t *>numbers.data.as_ints
            return TextColumn(numbers, <list>self.fields[i].texts.objects)
        objects = PyList_New(size)
        PyObject_GC_UnTrack(objects)  # nobody may find it before it is filled
        to.objects = <PyObject *>objects
        return objects

    cdef bint one(
        self, const char *p, Py_ssize_t row, Column *columns, uint64_t required
    ) except -1:
        """Read a record up to ``end``; ``False`` if it has to be looked at closer."""
        cdef const char *end = self.end
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
            if p[0] == END_BRACE:
                return skip_space(p + 1) == end and not required & ~seen
            if p[0] != COMMA:
                return False

    cdef inline bint is_known(
        self, const char **at, const char *end, int number, int *field
    ) noexcept nogil:
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

    cdef bint learn(
        self, const char **at, const char *end, int number, int *field
    ) noexcept nogil:
        """Go to the next value, and note the way; ``False``: look closer."""
        cdef const char *begin = at[0]
        cdef const char *p = skip_space(begin)
        cdef const char *last
        cdef bint is_ascii
        cdef Step *step
        if p[0] != (COMMA if number else BRACE):
            return False
        p = skip_space(p + 1)
        if p[0] != QUOTE:
            return False
        last = end_of_text(p + 1, end, &is_ascii)
        if last == NULL:
            return False
        field[0] = self.field_of(p + 1, last - p - 1)
        p = skip_space(last + 1)
        if p[0] != COLON:
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

    cdef int field_of(self, const char *name, Py_ssize_t size) noexcept nogil:
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
        if p[0] == LETTER_N:
            return NULL if column.is_wanted or not self.fields[i].is_nullable else skip_word(p)
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
        if p[0] != QUOTE:
            return NULL
        p += 1
        last = end_of_text(p, end, &is_ascii)
        if last == NULL:
            return NULL
        if column.is_wanted:
            self.wait(&self.fields[i].texts, p, last - p, is_ascii, &column.codes[row])
        return last + 1

    cdef inline int wait(
        self, Texts *texts, const char *p, Py_ssize_t size, bint is_ascii, int32_t *code
    ) except -1:
        """Find the number of a text later: until then its set comes out of memory."""
        cdef Waiting *one = &self.waiting[self.last % WAITING]
        one.texts = texts
        one.set = set_of(texts, p, size)
        one.start = p
        one.size = size
        one.is_ascii = is_ascii
        one.code = code
        fetch(one.set)
        self.last += 1
        return self.finish(WAITING - 1)

    cdef inline int finish(self, unsigned int left) except -1:
        """Find the numbers of the texts that wait, but for some of the last ones."""
        while self.last - self.first > left:
            put_code(&self.waiting[self.first % WAITING])
            self.first += 1
        return 0
