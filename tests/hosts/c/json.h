/*
 * JSON for the test host: parts of it by the library's own getters, and how a text is written on standard output.
 */
#ifndef WSGUARD_HOST_JSON_H
#define WSGUARD_HOST_JSON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsguard.h"

/* The part of `json` that `pointer` leads to, as JSON text; `data` is NULL where there is none. */
static inline wsg_str json_part(wsg_str json, const char *pointer) {
  wsg_str part = {NULL, 0};
  if (json.data != NULL) wsg_json_get(json.data, json.len, pointer, strlen(pointer), &part);
  return part;
}

/* The text of a JSON string there, in memory of its own; `data` is NULL where there is none. */
static inline wsg_str json_text(wsg_str json, const char *pointer) {
  wsg_str part = json_part(json, pointer), text = {NULL, 0};
  if (part.data == NULL) return text;
  char *buffer = malloc(part.len + 1);
  if (buffer == NULL) abort();
  text.data = buffer;
  if (wsg_json_string(part.data, part.len, buffer, part.len + 1, &text.len) < 0) free(buffer), text.data = NULL;
  return text;
}

/* A whole number there; `otherwise` where there is none. */
static inline unsigned long long json_number(wsg_str json, const char *pointer, unsigned long long otherwise) {
  wsg_str part = json_part(json, pointer);
  int64_t number = 0;
  if (part.data == NULL || wsg_json_integer(part.data, part.len, &number) < 0 || number < 0) return otherwise;
  return (unsigned long long)number;
}

/* Writes a text as a JSON string, or null where there is none. */
static inline void json_quote(FILE *out, wsg_str text) {
  size_t room = 6 * text.len + 3, len = 0;
  char *quoted = text.data == NULL ? NULL : malloc(room);
  if (quoted != NULL && wsg_json_quote(text.data, text.len, quoted, room, &len) >= 0) fputs(quoted, out);
  else fputs("null", out);
  free(quoted);
}

/* The same as a member of an object, behind others. */
static inline void json_member(FILE *out, const char *key, wsg_str text) {
  fprintf(out, ",\"%s\":", key);
  json_quote(out, text);
}

/* On standard output. */
static inline void json_print(const char *key, wsg_str text) { json_member(stdout, key, text); }

#endif
