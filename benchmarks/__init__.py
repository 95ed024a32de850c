"""What quart-app costs, beside what it is built on: ``python -m benchmarks [NAME...]``.

Every figure is taken in turn with its peer, in the same run on the same machine, because absolute
figures drift; what is promised is a ratio, or bytes. Nothing may live here that the package needs.
"""
