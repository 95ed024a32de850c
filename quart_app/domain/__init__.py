"""What a job IS: its statuses, its record, its task, its errors.

Pure: standard library and msgspec only. No asyncio, no input or output, no import of any other
room of the package may live here; everything is a value or a function from values to values.
"""
