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

#define API_RECORDS_MAX 64u
#define API_RECORD_TEXT_MAX 1024u
// [{"type","ttl","data"}]: ttl may be left out.
typedef struct api_records {
    uint32_t count;
    struct {
        char type[16];
        bool has_ttl;
        uint32_t ttl;
        char data[API_RECORD_TEXT_MAX + 1];
    } item[API_RECORDS_MAX];
} api_records;

// {"name","records","life_s","policy","grants"}; all but the name may be left out.
typedef struct api_name {
    char name[API_NAME_MAX + 1];
    bool has_life;
    uint32_t life_s;
    api_policy policy;
    api_records records;
} api_name;
HM_CHECK hm_err api_name_read(hm_bytes body, api_name *out);
// {"records"}
HM_CHECK hm_err api_records_read(hm_bytes body, api_records *out);
// {"life_s"}
HM_CHECK hm_err api_renew_read(hm_bytes body, uint32_t *life_s);

// {"to": node id}
HM_CHECK hm_err api_transfer_read(hm_bytes body, uint8_t to[32]);
// {"state": word}
HM_CHECK hm_err api_state_read(hm_bytes body, char state[32]);
// {"policy", "grants"}
HM_CHECK hm_err api_policy_read(hm_bytes body, api_policy *out);
// An empty body or {}.
HM_CHECK hm_err api_empty_read(hm_bytes body);

#define API_PROFILE_MAX 40u
// {"csr": PEM, "profile": word, "life_seconds"}; life_seconds, 0 here, may be left out
typedef struct api_csr {
    char csr[API_PEM_MAX + 1];
    char profile[API_PROFILE_MAX + 1]; // any word
    uint32_t life_s;
} api_csr;
HM_CHECK hm_err api_csr_read(hm_bytes body, api_csr *out);
// {"certificate": PEM, "zone", "prefix"}; the last two, "" here, may be left out
typedef struct api_trust {
    char certificate[API_PEM_MAX + 1];
    char zone[256], prefix[64]; // any text
} api_trust;
HM_CHECK hm_err api_trust_read(hm_bytes body, api_trust *out);
#define API_SIGNATURE_MAX 2048u
// {"serial", "time_ms", "csr": PEM, "signature"}; serial and signature in hexadecimal
typedef struct api_renewal {
    uint8_t serial[16];
    uint64_t time_ms;
    char csr[API_PEM_MAX + 1];
    uint8_t signature[API_SIGNATURE_MAX];
    size_t signature_len;
} api_renewal;
HM_CHECK hm_err api_renewal_read(hm_bytes body, api_renewal *out);
// {"reason": word}, or nothing
HM_CHECK hm_err api_revoke_read(hm_bytes body, char reason[32]);

#endif
