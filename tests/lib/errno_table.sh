#!/bin/sh
# SPDX-License-Identifier: MIT
# The errno table of uapi/unpu_accel.h as C: errno_table.sh HEADER >errno_table.h. errno_rows.c
# includes it and has a function for each row, named after the row's words.
set -eu
awk -F ' [|] ' '
function bad(why) { print FILENAME ":" FNR ": " why >"/dev/stderr"; failed = 1; exit 1 }
/^ \*   .*\|/ {
	sub(/^ \*   /, "")
	if (NF != 4)
		bad("a row of the errno table has 4 fields")
	flags = "0"
	if (/\(node\)/)
		flags = "ERRNO_NODE"
	if (/\(in process\)/)
		flags = "ERRNO_IN_PROCESS"
	name = tolower($1 " " $2 " " $3)
	sub(/ \((node|in process)\)$/, "", name)
	gsub(/[^a-z0-9]+/, "_", name)
	if (name in seen)
		bad("this row is there twice")
	seen[name] = 1
	print "\t{ \"" $1 " | " $2 " | " $3 "\","
	print "\t  row_" name ","
	print "\t  ERRNO_CALL_" toupper($1) ", " $4 ", " flags " },"
	rows++
}
END { if (!failed && !rows) bad("no errno table") }
' "$1"
