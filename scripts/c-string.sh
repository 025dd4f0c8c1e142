#!/bin/sh
# A text file as a C string literal, line by line, on standard output.
exec sed -e 's/[\\"]/\\&/g' -e 's/.*/"&\\n"/' "$1"
