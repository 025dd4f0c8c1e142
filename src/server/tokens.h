// Bearer tokens with roles, in a file that holds no token, only their SHA-256: one line each,
//
//   name role sha256 made_ms ends_ms
//
// ends_ms 0: never. Whoever changes the file replaces it whole; a server that holds a tokens_file
// sees that at the next request.
#ifndef HM_SERVER_TOKENS_H
#define HM_SERVER_TOKENS_H

#include <sys/stat.h>

#include "crypto/crypto.h"
#include "server/http.h"

#define TOKENS_MAX 1000u
#define TOKEN_TEXT_MAX 65u // 64 hexadecimal digits and the NUL

typedef struct token_info {
    char name[HM_HTTP_ACTOR_MAX + 1]; // [A-Za-z0-9._-]
    hm_http_role role;
    hm_hash hash;
    uint64_t made_ms, ends_ms;
} token_info;

typedef struct token_list {
    token_info *at; // owned
    size_t count;
} token_list;

// Pure. HM_E_CONFIG names the line that is wrong.
HM_CHECK hm_err tokens_parse(hm_bytes text, token_list *out);
void tokens_free(token_list *l);
// NULL: nobody's, or past its end.
const token_info *tokens_find(const token_list *l, hm_bytes token, uint64_t now_ms);
HM_CHECK hm_err token_role_parse(const char *word, hm_http_role *out);

// A missing file is an empty list.
HM_CHECK hm_err tokens_load(const char *path, token_list *out);
// Makes a token and adds it; days 0: it never ends. HM_E_EXISTS, HM_E_LIMIT, HM_E_INVALID (name).
// The caller sees to it that nobody else changes the file meanwhile. Zero `token` after use.
HM_CHECK hm_err tokens_add(const char *path, const char *name, hm_http_role role, uint64_t days,
                           uint64_t now_ms, char token[TOKEN_TEXT_MAX]);
HM_CHECK hm_err tokens_remove(const char *path, const char *name); // HM_E_NOTFOUND

// A list that follows its file.
typedef struct tokens_file {
    const char *path; // borrowed
    token_list list;
    struct timespec changed;
    ino_t inode;
} tokens_file;

// Reads the file again if it has changed; a file that cannot be read lets nobody in, and the log
// says why. True if it has changed.
bool tokens_follow(tokens_file *f);

// Answers, with no token in them and no hash of one: all of the list, and name and role of the one
// that the request brought, to a route that asks for one.
void tokens_tell(const token_list *l, hm_http_req *r);
void tokens_tell_actor(hm_http_req *r);

#endif
