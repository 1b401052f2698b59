"""What pyproject.toml cannot say yet: one module is compiled, where there is a compiler.

Without one the package works all the same, more slowly; ``streamapp bench`` says which it is.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

COLUMNS = Extension("streamapp.serde.plain_json", ["streamapp/serde/plain_json.pyx"], optional=True)

setup(ext_modules=cythonize([COLUMNS]))
