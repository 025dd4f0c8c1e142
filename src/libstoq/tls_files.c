#include "base/clock.h"
#include "hypermesh/stoq_tls.h"
#include "trustchain/trustchain.h"

static hm_err tls_files(const stoq_tls_files *files, bool is_server, SSL_CTX **out)
{
    const tc_tls_config cfg = {
        .is_server = is_server,
        .groups = files->groups,
        .ids = {{files->cert_path, files->key_path}},
        .roots_path = files->roots_path,
        .crl_path = files->crl_path,
        .clock = &hm_clock_system,
    };
    if (!files->cert_path != !files->key_path)
        return hm_fail(HM_E_CONFIG, "cert_path and key_path go together");
    if (is_server && !files->cert_path)
        return hm_fail(HM_E_CONFIG, "a server needs cert_path and key_path");
    if (!is_server && !files->roots_path)
        return hm_fail(HM_E_CONFIG, "a client needs roots_path");
    if (files->crl_path && !files->roots_path)
        return hm_fail(HM_E_CONFIG, "crl_path needs roots_path");
    HM_TRY(hm_crypto_init());
    return tc_tls(&cfg, out);
}

hm_err stoq_tls_server(const stoq_tls_files *files, SSL_CTX **out)
{
    return tls_files(files, true, out);
}

hm_err stoq_tls_client(const stoq_tls_files *files, SSL_CTX **out)
{
    return tls_files(files, false, out);
}
