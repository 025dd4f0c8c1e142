#include "server/client.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yyjson.h>

#define ANSWER_MAX (64u << 20)
#define LINE_MAX_BYTES 65536u

static size_t on_data(char *ptr, size_t size, size_t n, void *ctx)
{
    hm_buf *b = ctx;
    if (b->len + size * n > ANSWER_MAX)
        return 0;
    hm_buf_append(b, ptr, size * n);
    return hm_buf_status(b) == HM_OK ? size * n : 0;
}

void hm_client_escape(hm_buf *out, const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                     (*p >= '0' && *p <= '9') || strchr("-._~", *p);
        if (plain)
            hm_buf_append(out, p, 1);
        else
            hm_buf_printf(out, "%%%02X", *p);
    }
}

static const char *text_of(yyjson_val *v, const char *name)
{
    const char *s = yyjson_get_str(yyjson_obj_get(v, name));
    return s ? s : "";
}

static hm_err error_of(long status)
{
    switch (status) {
    case 401:
    case 403:
        return HM_E_DENIED;
    case 404:
        return HM_E_NOTFOUND;
    case 409:
        return HM_E_EXISTS;
    case 429:
    case 503:
        return HM_E_BUSY;
    case 504:
        return HM_E_TIMEOUT;
    default:
        return HM_E_HTTP;
    }
}

hm_err hm_client_keep(hm_client *c)
{
    c->kept = curl_easy_init();
    return c->kept ? HM_OK : HM_E_NOMEM;
}

void hm_client_release(hm_client *c)
{
    curl_easy_cleanup(c->kept);
    c->kept = NULL;
}

static _Thread_local hm_client_refusal last_refusal;

const hm_client_refusal *hm_client_refused(void)
{
    return last_refusal.code[0] ? &last_refusal : NULL;
}

static hm_err refusal(long status, hm_bytes body)
{
    yyjson_doc *doc = body.len ? yyjson_read((const char *)body.ptr, body.len, 0) : NULL;
    yyjson_val *e = yyjson_obj_get(yyjson_doc_get_root(doc), "error");
    hm_client_refusal *r = &last_refusal;
    r->text[0] = 0;
    if (yyjson_is_obj(e) && text_of(e, "code")[0]) {
        snprintf(r->code, sizeof(r->code), "%s", text_of(e, "code"));
        snprintf(r->message, sizeof(r->message), "%s", text_of(e, "message"));
        snprintf(r->detail, sizeof(r->detail), "%s", text_of(e, "detail"));
    } else {
        snprintf(r->code, sizeof(r->code), "HTTP");
        snprintf(r->message, sizeof(r->message), "the server answered with status %ld", status);
        r->detail[0] = 0;
        snprintf(r->text, sizeof(r->text), "%.*s", (int)(body.len < 64 ? body.len : 63),
                 body.len ? (const char *)body.ptr : "");
    }
    yyjson_doc_free(doc);
    hm_err err;
    if (r->detail[0] == '/') // an address that the server does not have
        err = hm_fail(error_of(status), "%s: %s", r->message, r->detail);
    else if (status == 401) // the detail is for who writes the request
        err = hm_fail(error_of(status), "%s", r->message);
    else
        err = hm_fail(error_of(status), "%s", r->detail[0] ? r->detail : r->message);
    snprintf(r->line, sizeof(r->line), "%s", hm_err_detail());
    return err;
}

static void finish(const hm_client *c, CURL *h)
{
    if (h != c->kept)
        curl_easy_cleanup(h);
}

// Called about once a second while nothing comes.
static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t d, curl_off_t e)
{
    const atomic_bool *cancel = ctx;
    (void)a, (void)b, (void)d, (void)e;
    return atomic_load(cancel) ? 1 : 0;
}

static CURL *prepare(const hm_client *c, const char *method, const char *path,
                     struct curl_slist **headers)
{
    hm_buf url = {0}, auth = {0};
    last_refusal.code[0] = 0;
    CURL *h = c->kept ? c->kept : curl_easy_init();
    if (c->kept)
        curl_easy_reset(h);
    int len = (int)strlen(c->url);
    while (len > 0 && c->url[len - 1] == '/')
        len--;
    hm_buf_printf(&url, "%.*s%s", len, c->url, path);
    if (!h || hm_buf_status(&url) != HM_OK) {
        finish(c, h);
        hm_buf_free(&url);
        return NULL;
    }
    curl_easy_setopt(h, CURLOPT_URL, hm_buf_cstr(&url));
    curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(h, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V6);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "https,http");
    curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    curl_easy_setopt(h, CURLOPT_TIMEOUT, (long)c->timeout_s);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, (long)HM_CLIENT_SILENCE_S);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (c->cancel) {
        curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(h, CURLOPT_XFERINFODATA, c->cancel);
        curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    }
    if (c->ca_path)
        curl_easy_setopt(h, CURLOPT_CAINFO, c->ca_path);
    if (c->token) {
        hm_buf_printf(&auth, "Authorization: Bearer %s", c->token);
        *headers = curl_slist_append(*headers, hm_buf_cstr(&auth));
    }
    *headers = curl_slist_append(*headers, "Expect:");
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, *headers);
    hm_buf_free(&url);
    hm_buf_free_secret(&auth);
    return h;
}

// Did the handshake end?
static bool connected(CURL *h)
{
    curl_off_t us = 0;
    return curl_easy_getinfo(h, CURLINFO_PRETRANSFER_TIME_T, &us) == CURLE_OK && us > 0;
}

static hm_err perform(const hm_client *c, CURL *h, long *status)
{
    char why[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, why);
    CURLcode code = curl_easy_perform(h);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, NULL);
    curl_easy_getinfo(h, CURLINFO_RESPONSE_CODE, status);
    if (code == CURLE_ABORTED_BY_CALLBACK && c->cancel && atomic_load(c->cancel))
        return HM_E_CLOSED;
    switch (code) {
    case CURLE_OK:
        return HM_OK;
    case CURLE_PEER_FAILED_VERIFICATION:
        return hm_fail(HM_E_CERT_UNTRUSTED, "%s: %s; the root is %s", c->url,
                       why[0] ? why : curl_easy_strerror(code),
                       c->ca_path ? c->ca_path : "one of the system's");
    case CURLE_SSL_CACERT_BADFILE:
        if (access(c->ca_path, R_OK) != 0)
            return hm_fail(HM_E_IO, "the root %s cannot be read: %s", c->ca_path, strerror(errno));
        return hm_fail(HM_E_CONFIG, "%s holds no root certificate in PEM", c->ca_path);
    case CURLE_READ_ERROR:
    case CURLE_ABORTED_BY_CALLBACK:
        return hm_fail(HM_E_IO, "the file cannot be read to its end");
    case CURLE_WRITE_ERROR:
        return hm_fail(HM_E_IO, "the answer cannot be written, or is too long");
    case CURLE_OPERATION_TIMEDOUT:
        if (*status || connected(h))
            return hm_fail(HM_E_TIMEOUT, "%s: no byte came for %d s", c->url, HM_CLIENT_SILENCE_S);
        __attribute__((fallthrough));
    default:
        return hm_fail(HM_E_UNREACHABLE, "%s: %s", c->url, curl_easy_strerror(code));
    }
}

// The file to send, which has the length that is announced.
static hm_err open_file(const char *path, FILE **out, curl_off_t *size)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (!f)
        return hm_fail(HM_E_IO, "%s cannot be read: %s", path, strerror(errno));
    if (fstat(fileno(f), &st) != 0 || !S_ISREG(st.st_mode)) {
        fclose(f);
        return hm_fail(HM_E_IO, "%s is no regular file", path);
    }
    if (st.st_size == 0 && fgetc(f) != EOF) { // as in /proc
        fclose(f);
        return hm_fail(HM_E_IO,
                       "%s holds more than the 0 bytes that it is said to have; a copy of "
                       "it can be sent",
                       path);
    }
    *out = f;
    *size = (curl_off_t)st.st_size;
    return HM_OK;
}

hm_err hm_client_request(const hm_client *c, const char *method, const char *path, hm_bytes body,
                         const char *file, hm_buf *out)
{
    struct curl_slist *headers = NULL;
    curl_off_t size = 0;
    long status = 0;
    hm_buf answer = {0};
    FILE *f = NULL;
    hm_err err;
    CURL *h = prepare(c, method, path, &headers);
    if (!h)
        return HM_E_NOMEM;
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_data); // which limits what was unpacked
    curl_easy_setopt(h, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(h, CURLOPT_ACCEPT_ENCODING, "gzip"); // C2SP static-ct-api: tiles may be so
    if (file) {
        HM_TRY_OUT(open_file(file, &f, &size));
        curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(h, CURLOPT_READDATA, f);
        curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, size);
    } else if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
        curl_easy_setopt(h, CURLOPT_POSTFIELDS, body.len ? (const char *)body.ptr : "");
    }
    HM_TRY_OUT(perform(c, h, &status));
    if (status < 200 || status > 299)
        err = refusal(status, hm_buf_bytes(&answer));
    else
        hm_buf_put(out, hm_buf_bytes(&answer));
out:
    if (f)
        fclose(f);
    hm_buf_free(&answer);
    curl_slist_free_all(headers);
    finish(c, h);
    return err;
}

typedef struct line_reader {
    CURL *h;
    void (*on_line)(void *ctx, hm_bytes line);
    void *ctx;
    hm_buf rest; // an unfinished line, or a refusal
} line_reader;

static size_t on_line_data(char *ptr, size_t size, size_t n, void *arg)
{
    line_reader *l = arg;
    long status = 0;
    size_t len = size * n;
    curl_easy_getinfo(l->h, CURLINFO_RESPONSE_CODE, &status);
    for (size_t i = 0; i < len; i++) {
        if (ptr[i] != '\n' || status != 200) {
            hm_buf_append(&l->rest, ptr + i, 1);
            continue;
        }
        l->on_line(l->ctx, hm_buf_bytes(&l->rest));
        hm_buf_reset(&l->rest);
    }
    return l->rest.len <= LINE_MAX_BYTES && hm_buf_status(&l->rest) == HM_OK ? len : 0;
}

hm_err hm_client_lines(const hm_client *c, const char *method, const char *path,
                       void (*on_line)(void *ctx, hm_bytes line), void *ctx)
{
    struct curl_slist *headers = NULL;
    line_reader l = {.on_line = on_line, .ctx = ctx};
    long status = 0;
    l.h = prepare(c, method, path, &headers);
    if (!l.h)
        return HM_E_NOMEM;
    curl_easy_setopt(l.h, CURLOPT_WRITEFUNCTION, on_line_data);
    curl_easy_setopt(l.h, CURLOPT_WRITEDATA, &l);
    if (strcmp(method, "GET") != 0) {
        curl_easy_setopt(l.h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)0);
        curl_easy_setopt(l.h, CURLOPT_POSTFIELDS, "");
    }
    hm_err err = perform(c, l.h, &status);
    if (err == HM_OK && status != 200)
        err = refusal(status, hm_buf_bytes(&l.rest));
    hm_buf_free(&l.rest);
    curl_slist_free_all(headers);
    finish(c, l.h);
    return err;
}

typedef struct file_out {
    CURL *h;
    FILE *f;
    hm_buf refusal;
    int error; // errno of the file, 0 = none
} file_out;

static size_t on_file_data(char *ptr, size_t size, size_t n, void *arg)
{
    file_out *o = arg;
    long status = 0;
    size_t len = size * n;
    curl_easy_getinfo(o->h, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200) {
        if (fwrite(ptr, 1, len, o->f) != len)
            o->error = errno ? errno : EIO;
        return o->error ? 0 : len;
    }
    if (o->refusal.len + len <= LINE_MAX_BYTES)
        hm_buf_append(&o->refusal, ptr, len);
    return len;
}

hm_err hm_client_download(const hm_client *c, const char *path, const char *to)
{
    struct curl_slist *headers = NULL;
    struct stat st;
    char part[4096];
    long status = 0;
    file_out o = {0};
    bool out = strcmp(to, "-") == 0, direct = out;
    if (!out && lstat(to, &st) == 0)
        direct = !S_ISREG(st.st_mode);
    if (snprintf(part, sizeof(part), direct ? "%s" : "%s.part", to) >= (int)sizeof(part))
        return hm_fail(HM_E_IO, "the file's name is too long");
    o.f = out ? stdout : fopen(part, "wb");
    if (!o.f)
        return hm_fail(hm_err_of_write(errno), "%s cannot be written: %s", part, strerror(errno));
    o.h = prepare(c, "GET", path, &headers);
    if (!o.h) {
        if (!out)
            fclose(o.f);
        return HM_E_NOMEM;
    }
    curl_easy_setopt(o.h, CURLOPT_WRITEFUNCTION, on_file_data);
    curl_easy_setopt(o.h, CURLOPT_WRITEDATA, &o);
    hm_err err = perform(c, o.h, &status);
    if ((out ? fflush(o.f) : fclose(o.f)) != 0 && !o.error)
        o.error = errno;
    if (err == HM_OK && status != 200)
        err = refusal(status, hm_buf_bytes(&o.refusal));
    else if (err == HM_OK && !o.error && !direct && rename(part, to) != 0)
        o.error = errno;
    if (o.error)
        err = hm_fail(HM_E_IO, "%s cannot be written: %s", to, strerror(o.error));
    if (err != HM_OK && !direct)
        unlink(part);
    hm_buf_free(&o.refusal);
    curl_slist_free_all(headers);
    finish(c, o.h);
    return err;
}
