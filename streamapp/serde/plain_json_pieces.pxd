# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Pieces of JSON, for ``plain_json`` alone: each function returns what is behind a piece.

``NULL`` is "look closer": it is no such piece, or none that is plain. Nothing here makes an object
or raises.

All bytes objects end in a zero byte, which no class of characters here contains: so a loop over one
of these classes stops at the end by itself. Words of eight bytes are read only where there are
eight.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *text, char **end, PyObject *overflow) except? -1.0

cdef extern from *:
    """
    #include <float.h>
    #if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the lowest byte of a word must be the first one in memory"
    #endif
    #if FLT_EVAL_METHOD != 0 || defined(__FAST_MATH__)
    #error "a quotient of two floats must be rounded once"
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
    /* Floats without an error: 10**22 is 5**22 * 2**22, and 5**22 has less than 53 bits. */
    static const double TENS[23] = {
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
        1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    """
    uint64_t ends_of_plain(uint64_t word) nogil
    int first_byte(uint64_t marks) nogil
    const double[23] TENS

cdef enum:
    #: Levels of values that are passed over; below them msgspec looks.
    MAX_DEPTH = 32
    #: More digits than that are no integer of 64 bits.
    MAX_DIGITS = 19

cdef enum:
    QUOTE = 0x22
    PLUS = 0x2B
    COMMA = 0x2C
    MINUS = 0x2D
    POINT = 0x2E
    ZERO = 0x30
    COLON = 0x3A
    BRACKET = 0x5B
    BACKSLASH = 0x5C
    LETTER_N = 0x6E
    BRACE = 0x7B
    END_BRACE = 0x7D


cdef inline bint is_digit(char c) noexcept nogil:
    return <uint8_t>(c - ZERO) < 10


cdef inline bint is_exponent(char c) noexcept nogil:
    return c == 0x65 or c == 0x45


cdef inline const char *skip_space(const char *p) noexcept nogil:
    while p[0] == 0x20 or p[0] == 0x0A or p[0] == 0x0D or p[0] == 0x09:
        p += 1
    return p


# --- texts ---------------------------------------------------------------------------------------


cdef inline bint is_plain(char c) noexcept nogil:
    return 0x20 <= <uint8_t>c < 0x80 and c != QUOTE and c != BACKSLASH


cdef inline bint is_between(char c, uint8_t low, uint8_t high) noexcept nogil:
    return low <= <uint8_t>c <= high


cdef inline const char *end_of_character(const char *p) noexcept nogil:
    """Pass over a character that is no ASCII: the table of well-formed UTF-8, Unicode 3.9."""
    cdef uint8_t first = <uint8_t>p[0]
    cdef uint8_t low = 0x80, high = 0xBF
    if 0xC2 <= first <= 0xDF:
        return p + 2 if is_between(p[1], low, high) else NULL
    if first == 0xE0:
        low = 0xA0  # below it one of two bytes
    elif first == 0xED:
        high = 0x9F  # above it surrogates
    elif first == 0xF0:
        low = 0x90  # below it one of three bytes
    elif first == 0xF4:
        high = 0x8F  # above it no characters
    elif not 0xE0 < first < 0xF4:
        return NULL
    if not (is_between(p[1], low, high) and is_between(p[2], 0x80, 0xBF)):
        return NULL
    if first < 0xF0:
        return p + 3
    return p + 4 if is_between(p[3], 0x80, 0xBF) else NULL


cdef inline const char *end_of_text(const char *p, const char *end, bint *is_ascii) noexcept nogil:
    """Return the closing quote of a text without escapes, in valid UTF-8."""
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
            while is_plain(p[0]):
                p += 1
        if p[0] == QUOTE:
            return p
        if <uint8_t>p[0] < 0x80:
            return NULL
        is_ascii[0] = False
        while <uint8_t>p[0] >= 0x80:
            p = end_of_character(p)
            if p == NULL:
                return NULL


cdef inline const char *skip_text(const char *p, const char *end) noexcept nogil:
    cdef bint is_ascii
    if p[0] != QUOTE:
        return NULL
    p = end_of_text(p + 1, end, &is_ascii)
    return p + 1 if p != NULL else NULL


# --- numbers -------------------------------------------------------------------------------------


cdef inline const char *end_of_digits(const char *p) noexcept nogil:
    if not is_digit(p[0]):
        return NULL
    while is_digit(p[0]):
        p += 1
    return p


cdef inline const char *end_of_number(const char *p) noexcept nogil:
    if p[0] == MINUS:
        p += 1
    p = p + 1 if p[0] == ZERO else end_of_digits(p)
    if p != NULL and p[0] == POINT:
        p = end_of_digits(p + 1)
    if p != NULL and is_exponent(p[0]):
        p += 1
        if p[0] == PLUS or p[0] == MINUS:
            p += 1
        p = end_of_digits(p)
    return p


cdef inline const char *read_digits(const char *p, uint64_t *number) noexcept nogil:
    """Go on with a number; of more than ``MAX_DIGITS`` digits it is any."""
    while is_digit(p[0]):
        number[0] = number[0] * 10 + <uint64_t>(p[0] - ZERO)
        p += 1
    return p


cdef inline const char *read_int(const char *p, int64_t *found) noexcept nogil:
    """Read an integer; the lowest one is as rare as those that need more bits."""
    cdef bint is_negative = p[0] == MINUS
    cdef const char *first = p + is_negative
    cdef uint64_t number = 0
    p = read_digits(first, &number)
    if p == first or p - first > MAX_DIGITS or (first[0] == ZERO and p - first > 1):
        return NULL
    if number >> 63:
        return NULL
    found[0] = -<int64_t>number if is_negative else <int64_t>number
    return p


cdef inline const char *read_any_float(const char *start, double *found) except? NULL:
    """Read a number with a point or an exponent by Python's own function, exact and slow."""
    cdef const char *end = end_of_number(start)
    cdef char *stop = NULL
    cdef double value
    if end == NULL:
        return NULL
    value = PyOS_string_to_double(start, &stop, NULL)
    if stop != end or value - value != 0:  # infinite
        return NULL
    found[0] = value
    return end


cdef inline const char *read_float(const char *start, double *found) except? NULL:
    """Read a number; one below 2**53 without its point is one exact integer divided by another."""
    cdef bint is_negative = start[0] == MINUS
    cdef const char *first = start + is_negative
    cdef const char *point = NULL
    cdef uint64_t number = 0
    cdef const char *p = read_digits(first, &number)
    cdef double value
    if p == first or (first[0] == ZERO and p - first > 1):
        return NULL
    if p[0] == POINT:
        point = p
        p = read_digits(p + 1, &number)
        if p - point == 1:
            return NULL
    if is_exponent(p[0]):
        return read_any_float(start, found)
    # A zero may have a sign, which an integer has not.
    if p - first > MAX_DIGITS or number >> 53 or (is_negative and not number):
        return read_any_float(start, found) if point != NULL else NULL
    value = <double>number
    if point != NULL:
        value /= TENS[p - point - 1]
    found[0] = -value if is_negative else value
    return p


# --- any value -----------------------------------------------------------------------------------


cdef inline const char *skip_word(const char *p) noexcept nogil:
    """Pass over true, false and null."""
    if p[0] == 0x74 and p[1] == 0x72 and p[2] == 0x75 and p[3] == 0x65:
        return p + 4
    if p[0] == 0x66 and p[1] == 0x61 and p[2] == 0x6C and p[3] == 0x73 and p[4] == 0x65:
        return p + 5
    if p[0] == 0x6E and p[1] == 0x75 and p[2] == 0x6C and p[3] == 0x6C:
        return p + 4
    return NULL


cdef inline const char *skip_name(const char *p, const char *end) noexcept nogil:
    """Pass over a name and its colon."""
    p = skip_text(p, end)
    if p == NULL:
        return NULL
    p = skip_space(p)
    return skip_space(p + 1) if p[0] == COLON else NULL


cdef inline const char *skip_value(const char *p, const char *end, int depth) noexcept nogil:
    cdef char opening = p[0], closing
    if opening == QUOTE:
        return skip_text(p, end)
    if opening == MINUS or is_digit(opening):
        return end_of_number(p)
    if opening != BRACE and opening != BRACKET:
        return skip_word(p)
    if depth >= MAX_DEPTH:
        return NULL
    closing = opening + 2  # of { and of [ alike
    p = skip_space(p + 1)
    if p[0] == closing:
        return p + 1
    while True:
        if opening == BRACE:
            p = skip_name(p, end)
            if p == NULL:
                return NULL
        p = skip_value(p, end, depth + 1)
        if p == NULL:
            return NULL
        p = skip_space(p)
        if p[0] == closing:
            return p + 1
        if p[0] != COMMA:
            return NULL
        p = skip_space(p + 1)
