// docs/api/openapi.yaml names every route of the node's table, and nothing else. The program is
// linked without the node itself: only the table is looked at.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include <cmocka.h>

#include "server/node_api.h"

static bool in_table(const char *method, const char *path)
{
    size_t n;
    const hm_http_route *r = hm_node_api_routes(&n);
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(r[i].method, method) == 0 && strcmp(r[i].pattern, path) == 0)
            return true;
    return false;
}

static void test_openapi(void **state)
{
    char line[1024], path[256] = "";
    size_t n, found = 0;
    bool in_paths = false;
    FILE *f = fopen(HM_OPENAPI_PATH, "r");
    (void)state;
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        char method[16];
        if (line[0] != ' ')
            in_paths = strncmp(line, "paths:", 6) == 0;
        if (!in_paths || (line[2] == '/' && sscanf(line, " %255[^: ]:", path) == 1))
            continue;
        if (strncmp(line, "    ", 4) == 0 && line[4] != ' ' &&
            sscanf(line, "    %15[a-z]:", method) == 1) {
            if (!in_table(method, path))
                fail_msg("%s %s is not in the table", method, path);
            found++;
        }
    }
    fclose(f);
    (void)hm_node_api_routes(&n);
    assert_int_equal(found, n); // each of the file's is in the table, and they are as many
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_openapi)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
