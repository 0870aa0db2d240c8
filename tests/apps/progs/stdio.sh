# SPDX-License-Identifier: MIT
# Returns each line of its standard input: twenty by the shell itself, which may not read further than a line, then another program goes on.
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
	IFS= read -r line || exit 0
	printf '%s\n' "$line"
done
exec cat
