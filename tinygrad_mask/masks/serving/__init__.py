"""The entrance page: a web page and an interface for programs that say how masks are worn.

Needs the extra `serve`. What came is looked at and forgotten: no picture is stored, logged or sent
on.
"""
