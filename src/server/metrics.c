#include "server/metrics.h"

#include <stdio.h>

#include "server/h3.h"
#include "server/json.h"

void hm_metrics_begin(hm_metrics *m, hm_buf *out, bool json)
{
    *m = (hm_metrics){.out = out, .json = json};
    if (json)
        hm_jw_open(out, NULL, '{');
}

void hm_metrics_value(hm_metrics *m, const char *name, const char *help, const char *labels,
                      uint64_t value, bool gauge)
{
    char family[96], key[256];
    snprintf(family, sizeof(family), "%s", name);
    size_t n = strlen(family);
    if (!gauge && n > 6 && strcmp(family + n - 6, "_total") == 0)
        family[n - 6] = 0; // OpenMetrics: the family's name is without the suffix
    if (m->json) {
        snprintf(key, sizeof(key), labels[0] ? "%s{%s}" : "%s", name, labels);
        hm_jw_u64(m->out, key, value);
        return;
    }
    if (strcmp(family, m->family) != 0) {
        hm_buf_printf(m->out, "# TYPE %s %s\n# HELP %s %s\n", family, gauge ? "gauge" : "counter",
                      family, help);
        snprintf(m->family, sizeof(m->family), "%s", family);
    }
    hm_buf_printf(m->out, labels[0] ? "%s%s{%s} %llu\n" : "%s%s%s %llu\n", family,
                  gauge ? "" : "_total", labels, (unsigned long long)value);
}

void hm_metrics_http(hm_metrics *m, const hm_http *http)
{
    hm_http_stats s;
    hm_http_get_stats(http, &s);
    hm_metrics_value(m, "hm_http_requests_total", "Requests taken", "", s.requests, false);
    for (int i = 2; i < 6; i++) {
        char label[16];
        snprintf(label, sizeof(label), "class=\"%dxx\"", i);
        hm_metrics_value(m, "hm_http_responses_total", "Answers by class", label, s.status[i],
                         false);
    }
    hm_metrics_value(m, "hm_http_refused_total", "Requests refused", "reason=\"auth\"",
                     s.refused_auth, false);
    hm_metrics_value(m, "hm_http_refused_total", "Requests refused", "reason=\"limit\"",
                     s.refused_limit, false);
    hm_metrics_value(m, "hm_http_refused_total", "Requests refused", "reason=\"rate\"",
                     s.refused_rate, false);
    hm_metrics_value(m, "hm_http_connections_refused_total",
                     "Connections refused for their number from one address", "", s.refused_client,
                     false);
    hm_metrics_value(m, "hm_http_connections_displaced_total",
                     "Resting connections ended to make room for new ones", "", s.displaced, false);
    hm_metrics_value(m, "hm_http_aborted_total", "Requests whose peer left", "", s.aborted, false);
    hm_metrics_value(m, "hm_http_body_received_bytes_total", "Bytes of bodies received", "",
                     s.bytes_in, false);
    hm_metrics_value(m, "hm_http_body_sent_bytes_total", "Bytes of bodies sent", "", s.bytes_out,
                     false);
    hm_metrics_value(m, "hm_http_connections", "Open connections", "", s.connections, true);
    hm_metrics_value(m, "hm_http_in_flight", "Requests in progress", "", s.in_flight, true);
    h3_counters n;
    if (hm_http_get_h3_counters(http, &n))
        h3_metrics(&n, m);
}

void hm_metrics_end(hm_metrics *m)
{
    if (m->json)
        hm_jw_close(m->out, '}');
    hm_buf_puts(m->out, m->json ? "\n" : "# EOF\n");
}

void hm_metrics_reply(hm_metrics *m, const hm_http *http, hm_http_req *r)
{
    hm_metrics_http(m, http);
    hm_metrics_end(m);
    hm_http_reply(r, 200, m->json ? "application/json" : HM_OPENMETRICS_TYPE, hm_buf_bytes(m->out));
    hm_buf_free(m->out);
}
