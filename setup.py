"""What pyproject.toml cannot say yet: two modules are compiled, where there is a compiler.

Without them the package works all the same, more slowly; ``streamapp bench`` says
whether the one that reads JSON is there.
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
MESSAGE_COLUMNS = Extension(
    "streamapp.transport.kafka.message_columns",
    ["streamapp/transport/kafka/message_columns.pyx"],
    optional=True,
)

setup(ext_modules=[PLAIN_JSON, MESSAGE_COLUMNS])
