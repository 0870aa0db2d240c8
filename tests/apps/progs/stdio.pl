# SPDX-License-Identifier: MIT
# Returns each line of its standard input, by way of PerlIO.
$| = 1;
print while <STDIN>;
