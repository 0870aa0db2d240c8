/* SPDX-License-Identifier: MIT */
/* JSON strings (RFC 8259, section 7) from bytes that may be anything (UTF-8: RFC 3629, section 4). */
#include "cli/json.h"

#include <math.h>
#include <stdint.h>

/* Length of the UTF-8 sequence at `s`; 0: none is there. Stops at the terminating zero, which continues nothing. */
static int sequence_length(const unsigned char *s)
{
	uint32_t code;
	int len = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : (*s & 0xf0) == 0xe0 ? 3 : *s >= 0xf0 && *s < 0xf5 ? 4 : 0;

	if (len < 2)
		return len;
	code = *s & (0xffu >> (len + 1));
	for (int i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	/* Too long a form, a surrogate, beyond Unicode. */
	if ((len == 3 && (code < 0x800 || (code >= 0xd800 && code < 0xe000))) || (len == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return len;
}

void json_string(FILE *to, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;

	putc('"', to);
	while (*s) {
		int len = sequence_length(s);

		if (!len)
			fputs("\\ufffd", to);
		else if (*s == '"' || *s == '\\')
			fprintf(to, "\\%c", *s);
		else if (*s < 0x20 || *s == 0x7f)
			fprintf(to, "\\u%04x", *s);
		else
			fwrite(s, 1, (size_t)len, to);
		s += len ? len : 1;
	}
	putc('"', to);
}

void json_number(FILE *to, double value)
{
	if (isfinite(value))
		fprintf(to, "%.6g", value);
	else
		fputs("null", to);
}
