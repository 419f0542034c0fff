"""Compiler options for tests that are not to be compiled in haste, see conftest.py."""

# What XLA does where nobody asks for anything else.
AS_USED = {
  "xla_backend_optimization_level": 3,
  "xla_llvm_disable_expensive_passes": False,
}
