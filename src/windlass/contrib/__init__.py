"""At home elsewhere: what other libraries and frameworks are given."""
