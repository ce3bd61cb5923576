"""What pyproject.toml cannot say: the cffi extension (cffi issue 55), and one abi3 wheel for CPython 3.11 and later."""

from setuptools import setup

setup(
    cffi_modules=["native/build_native.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
