// Bodies of API requests: each reader takes any bytes and refuses or yields values in bounds.
#include <stdlib.h>

#include "server/api_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static api_csr csr;
    static api_renewal renewal;
    static api_name name;
    static api_records records;
    static api_trust trust;
    uint32_t life_s;
    api_register reg;
    api_policy policy;
    uint8_t to[32];
    char word[32];
    hm_bytes body = hm_bytes_of(data, size);
    if (api_register_read(body, &reg) == HM_OK) {
        hm_assert(reg.name[0] && strlen(reg.name) <= API_NAME_MAX);
        hm_assert(reg.policy.grant_count <= API_GRANTS_MAX);
        hm_buf b = {0};
        hm_jw_open(&b, NULL, '{');
        hm_jw_str(&b, "name", reg.name);
        hm_jw_close(&b, '}');
        yyjson_doc *doc = NULL;
        hm_assert(hm_json_parse(hm_buf_bytes(&b), &doc) == HM_OK);
        hm_assert(yyjson_equals_str(yyjson_obj_get(yyjson_doc_get_root(doc), "name"), reg.name));
        yyjson_doc_free(doc);
        hm_buf_free(&b);
    }
    if (api_policy_read(body, &policy) == HM_OK)
        for (uint32_t i = 1; i < policy.grant_count; i++)
            hm_assert(memcmp(policy.grants[i - 1].node, policy.grants[i].node, 32) < 0);
    if (api_name_read(body, &name) == HM_OK) {
        hm_assert(name.name[0] && name.records.count <= API_RECORDS_MAX);
        for (uint32_t i = 0; i < name.records.count; i++)
            hm_assert(name.records.item[i].type[0] && name.records.item[i].data[0]);
    }
    if (api_records_read(body, &records) == HM_OK)
        hm_assert(records.count <= API_RECORDS_MAX);
    if (api_renew_read(body, &life_s) == HM_OK)
        hm_assert(life_s > 0);
    if (api_transfer_read(body, to) == HM_OK)
        hm_assert(size > 64);
    if (api_trust_read(body, &trust) == HM_OK)
        hm_assert(trust.certificate[0] && strlen(trust.certificate) <= API_PEM_MAX &&
                  strlen(trust.zone) < sizeof trust.zone);
    if (api_state_read(body, word) == HM_OK)
        hm_assert(word[0]);
    if (api_revoke_read(body, word) == HM_OK)
        hm_assert(word[0]);
    if (api_csr_read(body, &csr) == HM_OK)
        hm_assert(csr.csr[0]);
    if (api_renewal_read(body, &renewal) == HM_OK)
        hm_assert(renewal.csr[0] && renewal.signature_len > 0 &&
                  renewal.signature_len <= API_SIGNATURE_MAX);
    if (api_empty_read(body) == HM_OK)
        hm_assert(size == 0 || size >= 2);
    return 0;
}
