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

const char *http_method_of(const char *text, bool *head)
{
    static const char *const known[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"};
    *head = strcmp(text, "HEAD") == 0;
    if (*head)
        return "GET";
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(text, known[i]) == 0)
            return known[i];
    return "?";
}

// Does the path fit the pattern? Fills the parameters. A parameter is one segment, or
// with a star the rest, not empty.
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
        const char *end = strchr(pattern, '}');
        size_t n = end[-1] == '*' ? strlen(path) : strcspn(path, "/");
        if (n == 0 || r->param_count == HM_HTTP_PARAM_MAX)
            return false;
        memcpy(r->params_text + used, path, n);
        r->params_text[used + n] = 0;
        r->params[r->param_count++] = r->params_text + used;
        used += n + 1;
        path += n;
        pattern = end + 1;
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

static void find_actor(hm_http_req *r)
{
    const hm_http *h = r->server;
    char given[320];
    if (r->listener->read_only || r->wire->field(r, HTTP_AUTHORIZATION, given, sizeof(given)) <= 0)
        return;
    if (strncasecmp(given, "bearer ", 7) == 0) {
        hm_bytes token = hm_bytes_str(given + 7);
        if (h->token && token.len == strlen(h->token) &&
            hm_equal_ct(token.ptr, h->token, token.len))
            r->actor = (hm_http_actor){HM_HTTP_AUTHORITY, "api.token"};
        else if (h->who)
            h->who(h->ctx, token, &r->actor);
    }
    hm_zero(given, sizeof(given));
}

// A page of another name must not reach a local listener through a name that it points at ::1.
static bool host_good(const hm_http_req *r)
{
    char host[128] = "";
    if (!r->listener->local_names)
        return true;
    if (r->wire->field(r, HTTP_HOST, host, sizeof(host)) <= 0)
        return false;
    char *port = strrchr(host, ':');
    if (port && !strchr(port, ']'))
        *port = 0;
    return strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

static const http_file *find_file(const http_files *f, const char *path)
{
    if (strcmp(path, "/") == 0)
        path = f->index;
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
    if (r->wire->field(r, HTTP_TRANSFER_ENCODING, text, sizeof(text)) != 0) {
        r->close_after = true;
        hm_http_reply_error(r, 411, "LENGTH", "a Content-Length is needed",
                            "Transfer-Encoding is not taken");
        return false;
    }
    int len = r->wire->field(r, HTTP_CONTENT_LENGTH, text, sizeof(text));
    if (len == 0) {
        if (!body)
            return true;
        hm_http_reply_error(r, 411, "LENGTH", "a Content-Length is needed", NULL);
        return false;
    }
    uint64_t n = 0;
    for (const char *p = text; *p || len < 0; p++) {
        if (len < 0 || *p < '0' || *p > '9' || n > UINT64_MAX / 10 - 10) {
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
    hm_http_role needed = r->route->role ? r->route->role : HM_HTTP_AUTHORITY;
    if (!(r->route->flags & HM_HTTP_AUTH) || r->actor.role >= needed)
        return true;
    r->server->stats.refused_auth++;
    if (r->listener->read_only) {
        hm_http_reply_error(r, 403, "DENIED", "this address only reads",
                            "use the node's HTTPS API for changes");
    } else if (r->actor.role != HM_HTTP_NOBODY) {
        char why[128];
        snprintf(why, sizeof(why), "the token %s has the role %s, this needs %s", r->actor.name,
                 hm_http_role_word(r->actor.role), hm_http_role_word(needed));
        hm_http_reply_error(r, 403, "DENIED", "not with this token", why);
    } else {
        hm_http_header(r, "www-authenticate", "Bearer");
        hm_http_reply_error(r, 401, "DENIED", "the bearer token is missing or wrong",
                            "send Authorization: Bearer with the content of DIR/api.token");
    }
    return false;
}

static bool word_in(const char *words, const char *word, size_t len)
{
    while (words && *words) {
        size_t n = strcspn(words, " ");
        if (n == len && memcmp(words, word, n) == 0)
            return true;
        words += n + strspn(words + n, " ");
    }
    return false;
}

// A parameter that nobody reads would be a filter that does not filter.
static bool check_query(hm_http_req *r)
{
    for (size_t i = 0; i < r->query_count; i++) {
        const char *q = r->query[i];
        size_t len = strcspn(q, "=");
        bool known = word_in(r->route->query, q, len), twice = false;
        for (size_t k = 0; k < i; k++)
            twice = twice || (strcspn(r->query[k], "=") == len && memcmp(r->query[k], q, len) == 0);
        if (!*q || (known && !twice))
            continue;
        char detail[128];
        snprintf(detail, sizeof(detail), "parameter %.*s %s", (int)(len < 60 ? len : 60), q,
                 known ? "stands there twice" : "is unknown here");
        hm_http_reply_err(r, HM_E_PARSE, detail);
        return false;
    }
    return true;
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

static bool check_request(hm_http_req *r, const http_head *head)
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
    if (head->bytes > HM_HTTP_HEADER_MAX) {
        snprintf(text, sizeof(text), "%u bytes are taken", HM_HTTP_HEADER_MAX);
        r->server->stats.refused_limit++;
        hm_http_reply_error(r, 431, "LIMIT", "the headers are too long", text);
        return false;
    }
    if (!head->one_host) {
        hm_http_reply_error(r, 400, "HOST", "HTTP/1.1 needs one Host header", NULL);
        return false;
    }
    return true;
}

void http_route_start(hm_http_req *r, const http_head *head)
{
    char allow[64], expect[32];
    r->method = head->method;
    r->head = head->head;
    if (!check_request(r, head))
        return;
    if (!head->readable || strlen(head->path) >= sizeof(r->path) || !path_good(head->path)) {
        hm_http_reply_error(r, 400, "PARSE", "the address cannot be read", NULL);
        return;
    }
    strcpy(r->path, head->path);
    (void)r->wire->field(r, HTTP_IF_NONE_MATCH, r->if_none_match, sizeof(r->if_none_match));
    if (r->wire->field(r, HTTP_HOST, r->host, sizeof(r->host)) < 0)
        r->host[0] = 0;
    if (r->wire->field(r, HTTP_CONTENT_TYPE, r->body_type, sizeof(r->body_type)) < 0)
        r->body_type[0] = 0;
    if (!host_good(r)) {
        hm_http_reply_error(r, 421, "HOST", "this address answers to localhost and [::1] only",
                            NULL);
        return;
    }
    find_actor(r);
    r->route = find_route(r, allow, sizeof(allow));
    if (!r->route) {
        const http_file *f = find_file(&r->listener->files, r->path);
        if (f && strcmp(r->method, "GET") == 0)
            send_file(r, f);
        else
            refuse_unmatched(r, f ? "GET" : allow);
        return;
    }
    if (!check_right(r) || !check_query(r) || !check_length(r))
        return;
    if (r->wire->go_on && r->wire->field(r, HTTP_EXPECT, expect, sizeof(expect)) > 0 &&
        strcasecmp(expect, "100-continue") == 0)
        r->wire->go_on(r);
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
