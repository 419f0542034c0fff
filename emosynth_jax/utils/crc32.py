"""CRC-32 of concatenated strings from their checksums."""


def combine(first: int, second: int, length: int) -> int:
  """Combines the CRC-32 of two strings to that of their concatenation.

  Appending a zero bit multiplies a CRC by x modulo the polynomial, so appending n bytes
  multiplies by x^(8 n), which takes log n squarings. The shifted CRC of the first
  string and that of the second are added without carry.

  Args:
    first: of the first string.
    second: of the second one.
    length: of the second one, in bytes.

  Returns:
    `zlib.crc32(first string + second string)`.
  """
  # The bits are reversed: the highest is the coefficient of x^0.
  power, result = 1 << 30, 1 << 31  # x and 1
  bits = 8 * length
  while bits:
    if bits & 1:
      result = _times(power, result)
    power = _times(power, power)
    bits >>= 1
  return _times(result, first) ^ second


def _times(a: int, b: int) -> int:
  """Product of two polynomials over GF(2) modulo that of CRC-32."""
  product = 0
  for bit in range(31, -1, -1):
    if a >> bit & 1:
      product ^= b
    b = b >> 1 ^ (0xEDB88320 if b & 1 else 0)
  return product
