// Answers and seal proofs of a small sector whose true ones are known. The first byte: answer (0)
// or seal part, and whether the rest is the proof itself or how the true one is changed (bit 7: two
// bytes of place, one to xor). What verifies is the true one.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/proof_space.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static hm_space_params params;
static hm_space_commitment commitment;
static hm_node_id node = {{1}};
static hm_hash seed = {{2}};
static hm_buf answer, part;

static void must(hm_err err)
{
    if (err != HM_OK)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    char dir[] = "/tmp/hm-fuzz-XXXXXX", path[64];
    hm_space_sector *sector;
    params = (hm_space_params){.nodes_log2 = 6,
                               .layers = 2,
                               .drg_parents = 2,
                               .exp_log2 = 1,
                               .seal_challenges = 2,
                               .seal_grind_bits = 4,
                               .answer_challenges = 3};
    if (mkdtemp(dir) == NULL)
        abort();
    snprintf(path, sizeof path, "%s/sector", dir);
    must(hm_space_seal(&params, &node, 0, path, NULL, &commitment));
    must(hm_space_open(path, &sector));
    must(hm_space_answer(sector, &seed, &answer));
    must(hm_space_sector_seal_part(sector, 0, &part));
    hm_space_close(sector);
    if (remove(path) != 0 || remove(dir) != 0)
        abort();
    return 0;
}

static void check(bool is_seal, hm_bytes proof)
{
    hm_err err = is_seal ? hm_space_seal_part_verify(&params, &node, 0, &commitment, 0, proof)
                         : hm_space_answer_verify(&params, &node, 0, &commitment, &seed, proof);
    hm_assert((err == HM_OK) == hm_bytes_eq(proof, hm_buf_bytes(is_seal ? &part : &answer)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[HM_SPACE_PART_MAX];
    if (size == 0)
        return 0;
    bool is_seal = data[0] & 1;
    const hm_buf *good = is_seal ? &part : &answer;
    if (!(data[0] & 0x80)) {
        check(is_seal, hm_bytes_of(data + 1, size - 1));
        // The parameters of a genesis are read from bytes too.
        hm_rd r = hm_rd_of(hm_bytes_of(data + 1, size - 1));
        hm_space_params p;
        hm_space_commitment c;
        hm_space_params_read(&r, &p);
        hm_space_commitment_read(&r, &c);
        if (hm_rd_ok(&r)) {
            uint8_t mem[HM_SPACE_PARAMS_BYTES + HM_SPACE_COMMITMENT_BYTES];
            hm_buf again = hm_buf_fixed(mem, sizeof mem);
            hm_space_params_write(&again, &p);
            hm_space_commitment_write(&again, &c);
            hm_assert(again.len == sizeof mem && memcmp(mem, data + 1, sizeof mem) == 0);
            hm_assert(hm_space_params_check(&p) == HM_OK);
        }
        return 0;
    }
    memcpy(copy, good->ptr, good->len);
    for (size_t i = 1; i + 2 < size; i += 3)
        copy[((size_t)data[i] << 8 | data[i + 1]) % good->len] ^= data[i + 2];
    check(is_seal, hm_bytes_of(copy, good->len));
    return 0;
}
