"""Records in and out; knows no values."""
