"""The only rooms that name concrete things: they read clocks, open stores, start processes.

Rule: nothing here thinks. Each room wires parts that take their dependencies as arguments.
"""
