"""Computes, and knows no clock, socket, log, thread or ``await``."""
