// The XDP program: some forty instructions that stand here, so that nobody needs a compiler for
// them at build time nor a file of them at run time.
#include "stoq/xdp_prog.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <unistd.h>

#include "base/err.h"

// What a map of addresses is asked for: in the program's stack and in the map the same 20 bytes.
typedef struct target {
    struct in6_addr addr;
    uint32_t port; // 16 bits as they are in the frame
} target;

typedef struct target_mac {
    uint16_t mac[3], unused;
} target_mac;

hm_err stoq_xdp_fail(int error, const char *what)
{
    hm_err err = error == EPERM || error == EACCES        ? HM_E_DENIED
                 : error == EBUSY || error == EEXIST      ? HM_E_BUSY
                 : error == EOPNOTSUPP || error == EINVAL ? HM_E_UNSUPPORTED
                 : error == ENOMEM                        ? HM_E_NOMEM
                                                          : HM_E_IO;
    const char *help = err == HM_E_DENIED ? " (needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF)"
                       : err == HM_E_BUSY ? " (another program has the interface)"
                       : error == ENOBUFS ? " (LimitMEMLOCK, or CAP_IPC_LOCK)"
                                          : "";
    return hm_fail(err, "%s: %s%s", what, strerror(error), help);
}

#define R(n) BPF_REG_##n
#define INSN(code_, dst, src, off_, imm_)                                                          \
    ((struct bpf_insn){                                                                            \
        .code = (code_), .dst_reg = (dst), .src_reg = (src), .off = (off_), .imm = (imm_)})
#define MOVE(dst, src) INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define SET(dst, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define ADD(dst, value) INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, value)
#define LOAD(size, dst, src, at) INSN(BPF_LDX | (size) | BPF_MEM, dst, src, at, 0)
#define STORE(size, dst, at, src) INSN(BPF_STX | (size) | BPF_MEM, dst, src, at, 0)
#define MAP(dst, fd)                                                                               \
    INSN(BPF_LD | BPF_DW | BPF_IMM, dst, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
// To the label `pass`, which is filled in when all stand.
#define PASS_UNLESS_EQUAL(reg, value) INSN(BPF_JMP | BPF_JNE | BPF_K, reg, 0, TO_PASS, value)
#define PASS_IF_ZERO(reg) INSN(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, TO_PASS, 0)
#define PASS_IF_ABOVE(reg, other) INSN(BPF_JMP | BPF_JGT | BPF_X, reg, other, TO_PASS, 0)
#define PASS_IF_DIFFERENT(reg, other) INSN(BPF_JMP | BPF_JNE | BPF_X, reg, other, TO_PASS, 0)
#define TO_PASS INT16_MAX
#define KEY_AT (-24) // in the stack

static int load_program(int ours, int rings)
{
    struct bpf_insn code[] = {
        MOVE(R(6), R(1)),
        LOAD(BPF_W, R(7), R(1), offsetof(struct xdp_md, data)),
        LOAD(BPF_W, R(3), R(1), offsetof(struct xdp_md, data_end)),
        // Ethernet, IPv6 and UDP headers are there, and are that.
        MOVE(R(4), R(7)),
        ADD(R(4), 62),
        PASS_IF_ABOVE(R(4), R(3)),
        LOAD(BPF_H, R(2), R(7), 12),
        PASS_UNLESS_EQUAL(R(2), htons(0x86dd)),
        LOAD(BPF_B, R(2), R(7), 20),
        PASS_UNLESS_EQUAL(R(2), IPPROTO_UDP),
        // The address and the port that it is sent to are ours.
        LOAD(BPF_W, R(2), R(7), 38),
        STORE(BPF_W, R(10), KEY_AT, R(2)),
        LOAD(BPF_W, R(2), R(7), 42),
        STORE(BPF_W, R(10), KEY_AT + 4, R(2)),
        LOAD(BPF_W, R(2), R(7), 46),
        STORE(BPF_W, R(10), KEY_AT + 8, R(2)),
        LOAD(BPF_W, R(2), R(7), 50),
        STORE(BPF_W, R(10), KEY_AT + 12, R(2)),
        LOAD(BPF_H, R(2), R(7), 56),
        STORE(BPF_W, R(10), KEY_AT + 16, R(2)),
        MAP(R(1), ours),
        MOVE(R(2), R(10)),
        ADD(R(2), KEY_AT),
        CALL(BPF_FUNC_map_lookup_elem),
        PASS_IF_ZERO(R(0)),
        // And so is the MAC: an interface that listens to everything gets others' frames too.
        LOAD(BPF_H, R(1), R(7), 0),
        LOAD(BPF_H, R(2), R(0), 0),
        PASS_IF_DIFFERENT(R(1), R(2)),
        LOAD(BPF_H, R(1), R(7), 2),
        LOAD(BPF_H, R(2), R(0), 2),
        PASS_IF_DIFFERENT(R(1), R(2)),
        LOAD(BPF_H, R(1), R(7), 4),
        LOAD(BPF_H, R(2), R(0), 4),
        PASS_IF_DIFFERENT(R(1), R(2)),
        // To the ring of its queue, or on as ever where there is none.
        LOAD(BPF_W, R(2), R(6), offsetof(struct xdp_md, rx_queue_index)),
        MAP(R(1), rings),
        SET(R(3), XDP_PASS),
        CALL(BPF_FUNC_redirect_map),
        EXIT,
        SET(R(0), XDP_PASS), // pass
        EXIT,
    };
    const size_t count = sizeof code / sizeof *code, pass = count - 2;
    for (size_t i = 0; i < count; i++)
        if (code[i].off == TO_PASS)
            code[i].off = (int16_t)(pass - i - 1);
    return bpf_prog_load(BPF_PROG_TYPE_XDP, "stoq", "MIT", code, count, NULL);
}

hm_err stoq_xdp_prog_load(stoq_xdp_prog *p, unsigned queues)
{
    p->ours = bpf_map_create(BPF_MAP_TYPE_HASH, "stoq_ours", sizeof(target), sizeof(target_mac),
                             STOQ_XDP_ADDRESSES_MAX, NULL);
    if (p->ours < 0)
        return stoq_xdp_fail(errno, "a map of addresses");
    p->rings = bpf_map_create(BPF_MAP_TYPE_XSKMAP, "stoq_rings", sizeof(uint32_t), sizeof(int),
                              queues, NULL);
    if (p->rings < 0)
        return stoq_xdp_fail(errno, "a map of AF_XDP sockets");
    p->prog = load_program(p->ours, p->rings);
    return p->prog >= 0 ? HM_OK : stoq_xdp_fail(errno, "loading the XDP program");
}

hm_err stoq_xdp_prog_take(stoq_xdp_prog *p, const struct in6_addr *addr, in_port_t port,
                          const uint8_t mac[6])
{
    target t = {.addr = *addr, .port = port};
    target_mac value = {0};
    memcpy(value.mac, mac, 6);
    return bpf_map_update_elem(p->ours, &t, &value, BPF_ANY) == 0
               ? HM_OK
               : stoq_xdp_fail(errno, "an address of the interface");
}

hm_err stoq_xdp_prog_attach(stoq_xdp_prog *p, unsigned interface, const char *name)
{
    char what[64];
    p->link = bpf_link_create(p->prog, (int)interface, BPF_XDP, NULL);
    if (p->link >= 0)
        return HM_OK;
    int e = errno;
    snprintf(what, sizeof what, "attaching the XDP program to %s", name);
    return stoq_xdp_fail(e, what);
}

void stoq_xdp_prog_unload(stoq_xdp_prog *p)
{
    int *fds[] = {&p->link, &p->prog, &p->rings, &p->ours};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}
