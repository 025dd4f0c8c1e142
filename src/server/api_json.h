// The bodies of the API's mutating requests, read strictly into plain structs. Pure; fuzzed.
#ifndef HM_SERVER_API_JSON_H
#define HM_SERVER_API_JSON_H

#include "server/json.h"

#define API_GRANTS_MAX 32u
#define API_NAME_MAX 255u
#define API_PEM_MAX 32768u

typedef struct api_policy {
    bool is_public;
    uint32_t grant_count;
    struct {
        uint8_t node[32];
        uint8_t rights;       // 1 read, 2 use, 4 manage
    } grants[API_GRANTS_MAX]; // in rising order, each once
} api_policy;

typedef struct api_content {
    uint64_t size;
    uint32_t chunk_bytes, chunks;
    uint8_t root[32];
} api_content;

// {"kind","name","policy":"public"|"private","grants":[{"node","rights":["read",...]}],"content":
// {"size","chunk_bytes","chunks","root"}}; policy is private unless given.
typedef struct api_register {
    char kind[32];
    char name[API_NAME_MAX + 1];
    api_policy policy;
    bool has_content;
    api_content content;
} api_register;
HM_CHECK hm_err api_register_read(hm_bytes body, api_register *out);

// {"to": node id}
HM_CHECK hm_err api_transfer_read(hm_bytes body, uint8_t to[32]);
// {"state": word}
HM_CHECK hm_err api_state_read(hm_bytes body, char state[32]);
// {"policy", "grants"}
HM_CHECK hm_err api_policy_read(hm_bytes body, api_policy *out);
// An empty body or {}.
HM_CHECK hm_err api_empty_read(hm_bytes body);

// {"csr": PEM, "profile": "node"|"server"}
typedef struct api_csr {
    char csr[API_PEM_MAX + 1];
    char profile[16];
} api_csr;
HM_CHECK hm_err api_csr_read(hm_bytes body, api_csr *out);
// {"reason": word}, or nothing
HM_CHECK hm_err api_revoke_read(hm_bytes body, char reason[32]);

#endif
