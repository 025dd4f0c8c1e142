// Which handler a request goes to, what is refused before any handler sees it, and static files.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>

#include "server/http_internal.h"

// Nothing inline and nothing from elsewhere.
#define PAGE_CSP                                                                                   \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src "        \
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

static const char *method_of(struct lws *wsi, bool *head)
{
    char *uri;
    int len;
    *head = false;
    switch (lws_http_get_uri_and_method(wsi, &uri, &len)) {
    case LWSHUMETH_GET:
        return "GET";
    case LWSHUMETH_HEAD:
        *head = true;
        return "GET";
    case LWSHUMETH_POST:
        return "POST";
    case LWSHUMETH_PUT:
        return "PUT";
    case LWSHUMETH_PATCH:
        return "PATCH";
    case LWSHUMETH_DELETE:
        return "DELETE";
    case LWSHUMETH_OPTIONS:
        return "OPTIONS";
    case LWSHUMETH_COLON_PATH: {
        static const char *const known[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
        char m[16] = "";
        (void)lws_hdr_copy(wsi, m, sizeof(m), WSI_TOKEN_HTTP_COLON_METHOD);
        if (strcmp(m, "HEAD") == 0) {
            *head = true;
            return "GET";
        }
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (strcmp(m, known[i]) == 0)
                return known[i];
        return "?";
    }
    default:
        return "?";
    }
}

static bool copy_header(hm_http_req *r, enum lws_token_indexes token, char *out, size_t size)
{
    out[0] = 0;
    return lws_hdr_total_length(r->wsi, token) > 0 &&
           lws_hdr_copy(r->wsi, out, (int)size, token) > 0;
}

static bool read_query(hm_http_req *r)
{
    size_t used = 0;
    for (int i = 0;; i++) {
        char *at = r->query_text + used;
        int n = lws_hdr_copy_fragment(r->wsi, at, (int)(sizeof(r->query_text) - used - 1),
                                      WSI_TOKEN_HTTP_URI_ARGS, i);
        if (n < 0)
            return lws_hdr_fragment_length(r->wsi, WSI_TOKEN_HTTP_URI_ARGS, i) == 0;
        if (r->query_count == HM_HTTP_QUERY_MAX)
            return false;
        at[n] = 0;
        r->query[r->query_count++] = at;
        used += (size_t)n + 1;
    }
}

// Does the path fit the pattern? Fills the parameters. A parameter is one segment, not empty.
static bool match(hm_http_req *r, const char *pattern)
{
    const char *path = r->path;
    size_t used = 0;
    r->param_count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++)
                return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        if (n == 0 || r->param_count == HM_HTTP_PARAM_MAX)
            return false;
        memcpy(r->params_text + used, path, n);
        r->params_text[used + n] = 0;
        r->params[r->param_count++] = r->params_text + used;
        used += n + 1;
        path += n;
        pattern = strchr(pattern, '}') + 1;
    }
    return *path == 0;
}

static const hm_http_route *find_route(hm_http_req *r, char *allow, size_t allow_size)
{
    hm_http *h = r->server;
    allow[0] = 0;
    for (size_t i = 0; i < h->route_count; i++) {
        if (!match(r, h->routes[i].pattern))
            continue;
        if (strcmp(h->routes[i].method, r->method) == 0)
            return &h->routes[i];
        size_t n = strlen(allow);
        snprintf(allow + n, allow_size - n, "%s%s", n ? ", " : "", h->routes[i].method);
    }
    return NULL;
}

static bool token_good(const hm_http_req *r)
{
    char given[320];
    if (!r->server->token ||
        lws_hdr_copy(r->wsi, given, sizeof(given), WSI_TOKEN_HTTP_AUTHORIZATION) <= 0)
        return false;
    size_t len = strlen(r->server->token);
    bool good = strncasecmp(given, "bearer ", 7) == 0 && strlen(given + 7) == len &&
                hm_equal_ct(given + 7, r->server->token, len);
    hm_zero(given, sizeof(given));
    return good;
}

// A page of another name must not reach a local listener through a name that it points at ::1.
static bool host_good(const hm_http_req *r)
{
    char host[128] = "";
    if (!r->listener->local_names)
        return true;
    if (lws_hdr_copy(r->wsi, host, sizeof(host), WSI_TOKEN_HOST) <= 0)
        return false;
    char *port = strrchr(host, ':');
    if (port && !strchr(port, ']'))
        *port = 0;
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static const http_file *find_file(const http_files *f, const char *path)
{
    if (strcmp(path, "/") == 0)
        path = "/index.html";
    for (size_t i = 0; i < f->count; i++)
        if (strcmp(f->items[i].path, path) == 0)
            return &f->items[i];
    return NULL;
}

static void send_file(hm_http_req *r, const http_file *f)
{
    r->csp = PAGE_CSP;
    // Vite names what is under /assets/ by its content, so it never changes.
    r->cache_control =
        strncmp(f->path, "/assets/", 8) == 0 ? "public, max-age=31536000, immutable" : "no-cache";
    hm_http_header(r, "etag", f->etag);
    if (strcmp(r->if_none_match, f->etag) == 0)
        hm_http_reply(r, 304, NULL, (hm_bytes){0});
    else
        hm_http_reply(r, 200, f->type, hm_buf_bytes(&f->body));
}

static bool path_good(const char *path)
{
    if (path[0] != '/')
        return false;
    for (const unsigned char *p = (const unsigned char *)path; *p; p++)
        if (*p < 0x20 || *p == 0x7f || *p == '\\')
            return false;
    return !strstr(path, "/../") && !strstr(path, "/./");
}

static bool check_length(hm_http_req *r)
{
    char text[32];
    bool body = strcmp(r->method, "GET") != 0 && strcmp(r->method, "DELETE") != 0;
    if (lws_hdr_total_length(r->wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        r->close_after = true;
        hm_http_reply_error(r, 411, "LENGTH", "a Content-Length is needed",
                            "Transfer-Encoding is not taken");
        return false;
    }
    if (!copy_header(r, WSI_TOKEN_HTTP_CONTENT_LENGTH, text, sizeof(text))) {
        if (!body)
            return true;
        hm_http_reply_error(r, 411, "LENGTH", "a Content-Length is needed", NULL);
        return false;
    }
    uint64_t n = 0;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9' || n > UINT64_MAX / 10 - 10) {
            hm_http_reply_error(r, 400, "PARSE", "Content-Length is no number", NULL);
            return false;
        }
        n = n * 10 + (uint64_t)(*p - '0');
    }
    r->body_length = n;
    uint64_t max = r->route->body_max ? r->route->body_max : HM_HTTP_BODY_MAX;
    if (n <= max)
        return true;
    char detail[96];
    snprintf(detail, sizeof(detail), "the body may have %llu bytes, %llu were announced",
             (unsigned long long)max, (unsigned long long)n);
    r->server->stats.refused_limit++;
    hm_http_reply_error(r, 413, "LIMIT", "the body is too large", detail);
    return false;
}

static bool check_right(hm_http_req *r)
{
    if (!(r->route->flags & HM_HTTP_AUTH))
        return true;
    if (r->authorized)
        return true;
    r->server->stats.refused_auth++;
    if (r->listener->read_only) {
        hm_http_reply_error(r, 403, "DENIED", "this address only reads",
                            "use the node's HTTPS API for changes");
    } else {
        hm_http_header(r, "www-authenticate", "Bearer");
        hm_http_reply_error(r, 401, "DENIED", "the bearer token is missing or wrong",
                            "send Authorization: Bearer with the content of DIR/api.token");
    }
    return false;
}

static void refuse_unmatched(hm_http_req *r, const char *allow)
{
    if (allow[0]) {
        hm_http_header(r, "allow", allow);
        hm_http_reply_error(r, 405, "METHOD", "the method is not allowed here", allow);
    } else {
        hm_http_reply_error(r, 404, "NOTFOUND", "there is nothing under this address", r->path);
    }
}

// ---- what holds of every request ----------------------------------------------------------------

typedef struct header_sum {
    struct lws *wsi;
    size_t bytes;
} header_sum;

static void add_custom(const char *name, int len, void *opaque)
{
    header_sum *sum = opaque;
    int value = lws_hdr_custom_length(sum->wsi, name, len);
    sum->bytes += (size_t)len + (size_t)(value > 0 ? value : 0);
}

// Names and values of those that the library does not know, values of the others.
static size_t header_bytes(struct lws *wsi)
{
    header_sum sum = {wsi, 0};
    for (int i = 0; i < WSI_TOKEN_COUNT; i++)
        sum.bytes += (size_t)lws_hdr_total_length(wsi, (enum lws_token_indexes)i);
    (void)lws_hdr_custom_name_foreach(wsi, add_custom, &sum);
    return sum.bytes;
}

// RFC 9112, 3.2: exactly one, though it may be empty.
static bool one_host(const hm_http_req *r)
{
    char version[16] = "", host[256];
    if (r->h2 || (lws_hdr_copy(r->wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 &&
                  strcmp(version, "HTTP/1.0") == 0))
        return true;
    return lws_hdr_copy_fragment(r->wsi, host, sizeof(host), WSI_TOKEN_HOST, 0) >= 0 &&
           lws_hdr_fragment_length(r->wsi, WSI_TOKEN_HOST, 1) == 0;
}

static bool check_request(hm_http_req *r)
{
    char text[96];
    unsigned wait_s = http_client_wait_s(r->server, r->conn->client);
    if (wait_s) {
        snprintf(text, sizeof(text), "%u", wait_s);
        hm_http_header(r, "retry-after", text);
        snprintf(text, sizeof(text), "%u requests a second are answered to one address",
                 r->server->limits.client_rate);
        hm_http_reply_error(r, 429, "BUSY", "too many requests", text);
        return false;
    }
    if (header_bytes(r->wsi) > HM_HTTP_HEADER_MAX) {
        snprintf(text, sizeof(text), "%u bytes are taken", HM_HTTP_HEADER_MAX);
        r->server->stats.refused_limit++;
        hm_http_reply_error(r, 431, "LIMIT", "the headers are too long", text);
        return false;
    }
    if (!one_host(r)) {
        hm_http_reply_error(r, 400, "HOST", "HTTP/1.1 needs one Host header", NULL);
        return false;
    }
    return true;
}

void http_route_start(hm_http_req *r, const char *uri)
{
    char allow[64], expect[32];
    r->h2 = lws_hdr_total_length(r->wsi, WSI_TOKEN_HTTP_COLON_METHOD) > 0;
    r->method = method_of(r->wsi, &r->head);
    if (!check_request(r))
        return;
    if (strlen(uri) >= sizeof(r->path) || !path_good(uri) || !read_query(r)) {
        hm_http_reply_error(r, 400, "PARSE", "the address cannot be read", NULL);
        return;
    }
    strcpy(r->path, uri);
    (void)copy_header(r, WSI_TOKEN_HTTP_IF_NONE_MATCH, r->if_none_match, sizeof(r->if_none_match));
    if (!host_good(r)) {
        hm_http_reply_error(r, 421, "HOST", "this address answers to localhost and [::1] only",
                            NULL);
        return;
    }
    r->authorized = !r->listener->read_only && token_good(r);
    r->route = find_route(r, allow, sizeof(allow));
    if (!r->route) {
        const http_file *f = find_file(&r->listener->files, r->path);
        if (f && strcmp(r->method, "GET") == 0)
            send_file(r, f);
        else
            refuse_unmatched(r, f ? "GET" : allow);
        return;
    }
    if (!check_right(r) || !check_length(r))
        return;
    if (!r->h2 && copy_header(r, WSI_TOKEN_HTTP_EXPECT, expect, sizeof(expect)) &&
        strcasecmp(expect, "100-continue") == 0) {
        uint8_t *p = r->server->out + LWS_PRE;
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        memcpy(p, go_on, sizeof(go_on) - 1);
        (void)lws_write(r->wsi, p, sizeof(go_on) - 1, LWS_WRITE_HTTP_HEADERS_CONTINUATION);
    }
    if ((r->route->flags & HM_HTTP_STREAM) || r->body_length == 0)
        http_route_dispatch(r);
}

void http_route_dispatch(hm_http_req *r)
{
    hm_assert(!r->dispatched);
    r->dispatched = true;
    r->route->handler(r->server->ctx, r);
}

// ---- static files -------------------------------------------------------------------------------

static const char *type_of(const char *path)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".json", "application/json"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
        {".webmanifest", "application/manifest+json"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(dot, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

static hm_err load_file(http_files *f, const char *full, const char *path)
{
    if (f->count == HTTP_STATIC_FILES_MAX)
        return hm_fail(HM_E_LIMIT, "more than %u static files", HTTP_STATIC_FILES_MAX);
    http_file *items = realloc(f->items, (f->count + 1) * sizeof(*items));
    if (!items)
        return HM_E_NOMEM;
    f->items = items;
    http_file *x = &items[f->count];
    *x = (http_file){.path = strdup(path), .type = type_of(path)};
    if (!x->path)
        return HM_E_NOMEM;
    f->count++;
    HM_TRY(hm_file_read(full, HTTP_STATIC_MAX - f->bytes, &x->body));
    f->bytes += x->body.len;
    const uint64_t seeds[2][2] = {{1, 2}, {3, 4}}; // a fingerprint, not a secret
    snprintf(x->etag, sizeof(x->etag), "\"%016llx%016llx\"",
             (unsigned long long)hm_siphash(seeds[0], x->body.ptr, x->body.len),
             (unsigned long long)hm_siphash(seeds[1], x->body.ptr, x->body.len));
    return HM_OK;
}

static hm_err load_dir(http_files *f, const char *dir, const char *prefix, int depth)
{
    char full[4096], path[1024];
    struct dirent *e;
    hm_err err = HM_OK;
    DIR *d = opendir(dir);
    if (!d)
        return hm_fail(HM_E_NOTFOUND, "the page's folder %s cannot be read", dir);
    while (err == HM_OK && (e = readdir(d))) {
        struct stat st;
        if (e->d_name[0] == '.')
            continue;
        snprintf(full, sizeof(full), "%s/%s", dir, e->d_name);
        snprintf(path, sizeof(path), "%.700s/%s", prefix, e->d_name);
        if (lstat(full, &st) != 0)
            err = hm_fail(HM_E_IO, "%s cannot be read", full);
        else if (S_ISDIR(st.st_mode) && depth < 8)
            err = load_dir(f, full, path, depth + 1);
        else if (S_ISREG(st.st_mode)) // no symbolic links: nothing outside the folder
            err = load_file(f, full, path);
    }
    closedir(d);
    return err;
}

hm_err http_files_load(http_files *f, const char *dir)
{
    return load_dir(f, dir, "", 0);
}

void http_files_free(http_files *f)
{
    for (size_t i = 0; i < f->count; i++) {
        free(f->items[i].path);
        hm_buf_free(&f->items[i].body);
    }
    free(f->items);
    *f = (http_files){0};
}
