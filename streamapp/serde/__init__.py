"""Bytes to values and back; knows no topic and no broker."""
