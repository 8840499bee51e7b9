/*
 * As much JSON as the test host needs: where the value of a key is, what it says, and how a text is written.
 * The library has validated every message before; the lines on standard input come from the test runner.
 */
#ifndef WSGUARD_HOST_JSON_H
#define WSGUARD_HOST_JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsguard.h"

/* The value that starts at `at`, as text: from its first byte to its last. */
static inline wsg_str json_value(const char *at, const char *end) {
  wsg_str value = {at, 0};
  int depth = 0, quoted = 0;
  for (const char *p = at; p < end; p++) {
    if (quoted) {
      if (*p == '\\') p++;
      else if (*p == '"') quoted = 0;
    } else if (*p == '"') {
      quoted = 1;
    } else if (*p == '{' || *p == '[') {
      depth++;
    } else if ((*p == '}' || *p == ']') && depth-- == 0) {
      break;
    } else if ((*p == ',' || *p == ':' || *p <= ' ') && depth == 0) {
      break;
    }
    value.len = (size_t)(p + 1 - at);
  }
  if (value.len > (size_t)(end - at)) value.len = (size_t)(end - at);
  return value;
}

/* The value of `key` in an object; `data` is NULL where there is none. */
static inline wsg_str json_get(wsg_str object, const char *key) {
  if (object.data == NULL || object.len == 0) return (wsg_str){NULL, 0};
  const char *p = object.data, *end = p + object.len;
  size_t key_len = strlen(key);
  if (*p != '{') return (wsg_str){NULL, 0};
  for (p++; p < end;) {
    wsg_str name = json_value(p, end), value;
    if (name.len == 0) { p++; continue; }
    for (p += name.len; p < end && (*p == ':' || *p <= ' '); p++) {}
    value = json_value(p, end);
    p += value.len;
    if (name.len == key_len + 2 && memcmp(name.data + 1, key, key_len) == 0) return value;
  }
  return (wsg_str){NULL, 0};
}

static inline size_t json_put_utf8(char *to, unsigned c) {
  if (c < 0x80) return to[0] = (char)c, 1;
  if (c < 0x800) return to[0] = (char)(0xc0 | c >> 6), to[1] = (char)(0x80 | (c & 63)), 2;
  if (c < 0x10000)
    return to[0] = (char)(0xe0 | c >> 12), to[1] = (char)(0x80 | (c >> 6 & 63)), to[2] = (char)(0x80 | (c & 63)), 3;
  to[0] = (char)(0xf0 | c >> 18), to[1] = (char)(0x80 | (c >> 12 & 63));
  return to[2] = (char)(0x80 | (c >> 6 & 63)), to[3] = (char)(0x80 | (c & 63)), 4;
}

static inline unsigned json_hex(const char *p) {
  char digits[5] = {p[0], p[1], p[2], p[3], 0};
  return (unsigned)strtoul(digits, NULL, 16);
}

/* The text of a JSON string, unescaped, in memory of its own; empty where the value is not a string. */
static inline wsg_str json_text(wsg_str value) {
  char *text = calloc(value.len + 1, 1);
  size_t len = 0;
  if (text == NULL) abort();
  if (value.data == NULL || value.len < 2 || *value.data != '"') return (wsg_str){text, 0};
  for (const char *p = value.data + 1, *end = value.data + value.len - 1; p < end;) {
    if (*p != '\\' || p + 1 >= end) { text[len++] = *p++; continue; }
    if (p[1] == 'u' && end - p >= 6) {
      unsigned c = json_hex(p + 2);
      if (c >= 0xd800 && c < 0xdc00 && end - p >= 12) c = 0x10000 + ((c & 0x3ff) << 10) + (json_hex((p += 6) + 2) & 0x3ff);
      len += json_put_utf8(text + len, c);
      p += 6;
      continue;
    }
    const char *known = strchr("b\bf\fn\nr\rt\t", p[1]);
    text[len++] = known != NULL ? known[1] : p[1];
    p += 2;
  }
  return (wsg_str){text, len};
}

/* A whole number; `otherwise` where the value is not a number. */
static inline unsigned long long json_number(wsg_str value, unsigned long long otherwise) {
  char digits[24] = "";
  if (value.data == NULL || value.len >= sizeof digits || *value.data < '0' || *value.data > '9') return otherwise;
  memcpy(digits, value.data, value.len);
  return strtoull(digits, NULL, 10);
}

/* Prints a text as a JSON string, or null where there is none. */
static inline void json_print(const char *key, wsg_str text) {
  printf(",\"%s\":", key);
  if (text.data == NULL) { fputs("null", stdout); return; }
  putchar('"');
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.data[i];
    if (c == '"' || c == '\\') printf("\\%c", c);
    else if (c < 0x20) printf("\\u%04x", c);
    else putchar(c);
  }
  putchar('"');
}

#endif
