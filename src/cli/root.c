// hypermesh cert root: roots that no server has. Everything here is without a network.
#include <openssl/ui.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "trustchain/ceremony.h"

#define FILE_MAX 262144u

// Of the file, or asked for at the terminal; twice when it is a new one.
static hm_err passphrase_read(const cli *c, bool fresh, char out[TC_PASSPHRASE_MAX + 1])
{
    const char *path = hm_config_get(&c->cfg, "passphrase-file");
    hm_buf text = {0};
    if (!path) {
        if (EVP_read_pw_string_min(out, TC_PASSPHRASE_MIN, TC_PASSPHRASE_MAX + 1,
                                   "Passphrase of the root's key: ", fresh) != 0)
            return hm_fail(HM_E_USAGE,
                           "no passphrase: it has %u characters or more, and is asked for "
                           "at a terminal; --passphrase-file takes it from a file",
                           TC_PASSPHRASE_MIN);
        return HM_OK;
    }
    hm_err err = hm_file_read_secret(path, TC_PASSPHRASE_MAX + 1, &text);
    if (err == HM_OK) {
        snprintf(out, TC_PASSPHRASE_MAX + 1, "%s", hm_buf_cstr(&text));
        out[strcspn(out, "\r\n")] = 0;
    } else if (err == HM_E_NOTFOUND) {
        err = hm_fail(HM_E_IO, "%s is missing", path);
    }
    hm_buf_free_secret(&text);
    return err;
}

static hm_err say_files(cli *c, const char *key, const char *cert)
{
    hm_buf b = {0};
    if (c->json) {
        hm_jw_open(&b, NULL, '{');
        hm_jw_str(&b, "key", key);
        hm_jw_str(&b, "certificate", cert);
        hm_jw_close(&b, '}');
        hm_buf_puts(&b, "\n");
        fputs(hm_buf_cstr(&b), stdout);
        c->answered = true;
    } else {
        cli_fact("key", "%s", key);
        cli_fact("certificate", "%s", cert);
    }
    hm_err err = hm_buf_status(&b);
    hm_buf_free(&b);
    return err;
}

hm_err cli_root_create(cli *c, const cli_command *cmd)
{
    const char *family = hm_config_get(&c->cfg, "family"), *dir = hm_config_get(&c->cfg, "out");
    char passphrase[TC_PASSPHRASE_MAX + 1] = "", key[4096], cert[4096];
    (void)cmd;
    HM_TRY(hm_crypto_init());
    hm_err err = passphrase_read(c, true, passphrase);
    if (err == HM_OK)
        err = tc_root_create(strcmp(family, "mesh") == 0 ? TC_MESH : TC_EDGE,
                             hm_config_get(&c->cfg, "mesh"), dir, passphrase,
                             hm_clock_wall_ms(&hm_clock_system));
    hm_zero(passphrase, sizeof(passphrase));
    HM_TRY(err);
    snprintf(key, sizeof(key), "%s/%s-root.key", dir, family);
    snprintf(cert, sizeof(cert), "%s/%s-root.crt", dir, family);
    return say_files(c, key, cert);
}

hm_err cli_root_sign(cli *c, const cli_command *cmd)
{
    const char *key = hm_config_get(&c->cfg, "key"), *to = hm_config_get(&c->cfg, "output");
    char passphrase[TC_PASSPHRASE_MAX + 1] = "";
    hm_buf request = {0}, chain = {0};
    uint64_t days;
    hm_err err;
    (void)cmd;
    HM_TRY(hm_config_u64(&c->cfg, "days", 1, TC_ROOT_DAYS, &days));
    HM_TRY(hm_crypto_init());
    HM_TRY_OUT(cli_read_file(c->arg, FILE_MAX, &request));
    HM_TRY_OUT(passphrase_read(c, false, passphrase));
    HM_TRY_OUT(tc_root_sign(key, passphrase, hm_buf_bytes(&request), (uint32_t)days,
                            hm_config_get(&c->cfg, "edge-names"),
                            hm_clock_wall_ms(&hm_clock_system), &chain));
    HM_TRY_OUT(hm_file_write(to, hm_buf_bytes(&chain), 0644));
    err = say_files(c, key, to);
out:
    hm_zero(passphrase, sizeof(passphrase));
    hm_buf_free(&request);
    hm_buf_free(&chain);
    return err;
}
