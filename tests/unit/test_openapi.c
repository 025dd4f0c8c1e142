// docs/api/openapi.yaml names every route of the node's table, and nothing else; and so does
// docs/api/trustchain.yaml for the authority's. The program is linked without the node itself: only
// the tables are looked at.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include <cmocka.h>

#include "server/node_api.h"
#include "server/trust_api.h"

static bool in_table(const hm_http_route *r, size_t n, const char *method, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(r[i].method, method) == 0 && strcmp(r[i].pattern, path) == 0)
            return true;
    return false;
}

static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = words; p && (p = strstr(p, word)); p += len)
        if ((p == words || p[-1] == ' ') && (!p[len] || p[len] == ' '))
            return true;
    return false;
}

static const char *query_of(const hm_http_route *r, size_t n, const char *method, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(r[i].method, method) == 0 && strcmp(r[i].pattern, path) == 0)
            return r[i].query;
    return NULL;
}

static size_t count_words(const hm_http_route *r, size_t n)
{
    size_t words = 0;
    for (size_t i = 0; i < n; i++)
        for (const char *p = r[i].query; p; p = strchr(p + 1, ' '))
            words++;
    return words;
}

static void compare(const char *file, const hm_http_route *routes, size_t n)
{
    char line[1024], path[256] = "", method[16] = "", name[64];
    size_t found = 0, params = 0;
    bool in_paths = false;
    FILE *f = fopen(file, "r");
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        if (line[0] != ' ')
            in_paths = strncmp(line, "paths:", 6) == 0;
        if (!in_paths || (line[2] == '/' && sscanf(line, " %255[^: ]:", path) == 1))
            continue;
        if (strncmp(line, "    ", 4) == 0 && line[4] != ' ' &&
            sscanf(line, "    %15[a-z]:", method) == 1) {
            if (!in_table(routes, n, method, path))
                fail_msg("%s %s is not in the table", method, path);
            found++;
        }
        if (strstr(line, "in: query") && sscanf(line, " - {name: %63[^,]", name) == 1) {
            if (!has_word(query_of(routes, n, method, path), name))
                fail_msg("%s %s: parameter %s is not in the table", method, path, name);
            params++;
        }
    }
    fclose(f);
    assert_int_equal(found, n); // each of the file's is in the table, and they are as many
    assert_int_equal(params, count_words(routes, n));
}

static void test_node(void **state)
{
    size_t n;
    const hm_http_route *r = hm_node_api_routes(&n);
    (void)state;
    compare(HM_API_DOCS "/openapi.yaml", r, n);
}

static void test_trustchain(void **state)
{
    size_t n;
    const hm_http_route *r = hm_trust_api_routes(&n);
    (void)state;
    compare(HM_API_DOCS "/trustchain.yaml", r, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_node),
                                       cmocka_unit_test(test_trustchain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
