"""What pyproject.toml cannot say yet: one module is compiled, where there is a compiler.

Without one the package works all the same, more slowly; ``streamapp bench`` says which it is.
"""

from setuptools import Extension, setup

# Not by cythonize(): an sdist has to hold what is listed here, and that would list the C file.
PLAIN_JSON = Extension(
    "streamapp.serde.plain_json",
    ["streamapp/serde/plain_json.pyx"],
    depends=[
        "streamapp/serde/plain_json_pieces.pxd",
        "streamapp/serde/plain_json_texts.pxd",
    ],
    optional=True,
)

setup(ext_modules=[PLAIN_JSON])
