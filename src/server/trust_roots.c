#include "server/trust_roots.h"

#include "server/json.h"

void trust_roots_tell(const tc_authority *a, hm_http_req *r)
{
    const struct {
        const char *name;
        hm_bytes pem;
    } all[] = {
        {"mesh", tc_authority_root(a, TC_MESH)},
        {"edge", tc_authority_root(a, TC_EDGE)},
        {"cross", tc_authority_cross(a)},
        {"mesh-issuing", tc_authority_issuing(a, TC_MESH)},
        {"edge-issuing", tc_authority_issuing(a, TC_EDGE)},
    };
    const char *name = hm_http_query(r, "name");
    hm_buf b = {0};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (name && *name ? strcmp(name, all[i].name) == 0 : i < 2)
            hm_buf_put(&b, all[i].pem);
    if (b.len == 0 && name && strcmp(name, "cross") == 0)
        hm_http_reply_err(r, HM_E_NOTFOUND, "the mesh root has not signed the edge root");
    else if (b.len == 0)
        hm_http_reply_err(r, HM_E_PARSE,
                          "parameter name must be mesh, edge, cross, mesh-issuing or edge-issuing");
    else if (hm_buf_status(&b) != HM_OK)
        hm_http_reply_err(r, hm_buf_status(&b), NULL);
    else
        hm_http_reply(r, 200, "application/x-pem-file", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static hm_err put_issuing(hm_buf *b, const tc_authority *a, tc_family f, size_t n)
{
    const tc_issuing_id id = tc_issuing_id_at(a, f, n);
    hm_bytes pem;
    HM_TRY(tc_issuing_pem(a, f, id.hex, &pem));
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "family", tc_family_names[f]);
    hm_jw_str(b, "id", id.hex);
    hm_jw_bool(b, "present", n == 0);
    hm_jw_str(b, "state", tc_issuing_state_names[tc_issuing_state_at(a, f, n)]);
    hm_jw_text(b, "certificate", pem);
    hm_jw_close(b, '}');
    return HM_OK;
}

void trust_issuing_tell(const tc_authority *a, hm_http_req *r)
{
    hm_buf b = {0};
    hm_err err = HM_OK;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (int f = 0; f < 2; f++)
        for (size_t n = 0; n < tc_issuing_count(a, (tc_family)f) && err == HM_OK; n++)
            err = put_issuing(&b, a, (tc_family)f, n);
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        hm_http_reply_err(r, err, hm_err_detail());
    }
}
