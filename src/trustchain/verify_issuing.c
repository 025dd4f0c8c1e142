// An issuing certificate of a mesh that is to take its place beside the present one, or after it.
#include <openssl/err.h>

#include "trustchain/authority.h"

// The name constraints as they are encoded; len 0: there are none.
static hm_err constraints_of(const X509 *x, hm_bytes *out, bool *critical)
{
    int at = X509_get_ext_by_NID(x, NID_name_constraints, -1);
    *out = (hm_bytes){0};
    *critical = false;
    if (at < 0)
        return HM_OK;
    if (X509_get_ext_by_NID(x, NID_name_constraints, at) >= 0)
        return hm_fail(HM_E_CERT_PROFILE, "the issuing certificate has name constraints twice");
    X509_EXTENSION *e = X509_get_ext(x, at);
    const ASN1_OCTET_STRING *data = X509_EXTENSION_get_data(e);
    *out = hm_bytes_of(ASN1_STRING_get0_data(data), (size_t)ASN1_STRING_length(data));
    *critical = X509_EXTENSION_get_critical(e) == 1;
    return HM_OK;
}

// Those that the zone and the addresses of the mesh ask for.
static hm_err constraints_make(const char *mesh, X509 *holder)
{
    hm_buf text = {0};
    hm_err err = authority_constraints(TC_MESH, mesh, NULL, &text);
    if (err == HM_OK)
        err = x509_extension_add(holder, holder, NID_name_constraints, hm_buf_cstr(&text));
    hm_buf_free(&text);
    return err;
}

static hm_err constraints_kept(const X509 *x, const X509 *present, const char *mesh)
{
    hm_bytes have, want;
    bool critical, must;
    hm_err err;
    X509 *holder = NULL;
    HM_TRY(constraints_of(x, &have, &critical));
    HM_TRY(constraints_of(present, &want, &must));
    if (want.len == 0) {
        holder = X509_new();
        if (holder == NULL)
            return HM_E_NOMEM;
        HM_TRY_OUT(constraints_make(mesh, holder));
        HM_TRY_OUT(constraints_of(holder, &want, &must));
    }
    err = critical && hm_bytes_eq(have, want)
              ? HM_OK
              : hm_fail(HM_E_CERT_PROFILE,
                        "the issuing certificate is not bound to the zone and the addresses of "
                        "this mesh as the present one is (name constraints)");
out:
    X509_free(holder);
    return err;
}

static hm_err profile_check(X509 *x)
{
    uint8_t key[HM_FALCON_PUBLIC_BYTES];
    if (X509_check_ca(x) != 1 || X509_get_pathlen(x) != 0)
        return hm_fail(HM_E_CERT_PROFILE, "it is no certificate of an issuing authority (CA, path "
                                          "length 0)");
    if (X509_get_key_usage(x) != (KU_KEY_CERT_SIGN | KU_CRL_SIGN))
        return hm_fail(HM_E_CERT_PROFILE, "the key of an issuing authority signs certificates and "
                                          "revocation lists, and nothing else");
    if (hm_falcon_public_of_evp(X509_get0_pubkey(x), key) != HM_OK)
        return hm_fail(HM_E_CERT_PROFILE, "an issuing certificate of a mesh has a FALCON-1024 key");
    return HM_OK;
}

static hm_err facts_of(X509 *x, tc_issuing_cert *out)
{
    uint8_t key[HM_FALCON_PUBLIC_BYTES];
    tc_issuing_cert c;
    if (hm_falcon_public_of_evp(X509_get0_pubkey(x), key) != HM_OK)
        return hm_fail(HM_E_CERT_PROFILE, "an issuing certificate of a mesh has a FALCON-1024 key");
    HM_TRY(hm_node_id_of_public(hm_bytes_of(key, sizeof key), &c.key_id));
    HM_TRY(x509_common_name(X509_get_subject_name(x), c.name, sizeof c.name));
    HM_TRY(x509_time_ms(X509_get0_notBefore(x), &c.not_before_ms));
    HM_TRY(x509_time_ms(X509_get0_notAfter(x), &c.not_after_ms));
    *out = c;
    return HM_OK;
}

hm_err tc_issuing_read(hm_bytes der, tc_issuing_cert *out)
{
    X509 *x = NULL;
    HM_TRY(x509_cert_parse(der, &x));
    hm_err err = facts_of(x, out);
    ERR_clear_error();
    X509_free(x);
    return err;
}

hm_err tc_issuing_verify(hm_bytes der, hm_bytes root_der, hm_bytes present_der, const char *mesh,
                         uint64_t time_ms, tc_issuing_cert *out)
{
    hm_err err;
    X509 *x = NULL, *root = NULL, *present = NULL;
    HM_TRY_OUT(x509_cert_parse(der, &x));
    HM_TRY_OUT(x509_cert_parse(root_der, &root));
    HM_TRY_OUT(x509_cert_parse(present_der, &present));
    HM_TRY_OUT(x509_path_verify(x, NULL, root, time_ms));
    HM_TRY_OUT(profile_check(x));
    HM_TRY_OUT(constraints_kept(x, present, mesh));
    err = facts_of(x, out);
out:
    ERR_clear_error();
    X509_free(x);
    X509_free(root);
    X509_free(present);
    return err;
}
