#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/trustchain.h"

static int file = -1; // open as long as the program runs

static void write_line(const SSL *ssl, const char *line)
{
    char text[512]; // a label, 32 bytes and a secret of at most 64, in digits
    (void)ssl;
    int len = snprintf(text, sizeof text, "%s\n", line);
    if (len > 0 && (size_t)len < sizeof text)
        // In one piece, so that lines stay whole; a full disk must not end connections.
        while (write(file, text, (size_t)len) < 0 && errno == EINTR)
            continue;
    hm_zero(text, sizeof text);
}

hm_err tc_tls_keylog(SSL_CTX *ctx, const char **path)
{
    *path = secure_getenv("SSLKEYLOGFILE");
    if (*path == NULL || **path == 0) {
        *path = NULL;
        return HM_OK;
    }
    if (file < 0)
        file = open(*path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0)
        return hm_fail(HM_E_CONFIG, "SSLKEYLOGFILE, %s: %s", *path, strerror(errno));
    SSL_CTX_set_keylog_callback(ctx, write_line);
    return HM_OK;
}
