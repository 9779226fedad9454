/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A plugin for QEMU 7.2 (user mode, plugin API version 1) that counts the instructions which a guest executes between
 * marks, by class. A guest marks by closing a file number that can't exist: harmless wherever it really runs.
 *
 *     -plugin count_instructions.so,out=FILE
 *
 * FILE gets a line a region: "NAME TOTAL LOAD_STORE SIMD BRANCH INTEGER", NAME being empty or call, and at the end
 * "vcpus N". Counts are exact for one virtual CPU; with more they would race, so readers must refuse N > 1.
 * Built with any C compiler: Debian ships no header for plugins, hence the few declarations.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *ptr,
                                                     uint64_t imm);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*cb)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb));
extern void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, unsigned int vcpu));
extern void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                                    uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8));
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*cb)(qemu_plugin_id_t id, void *data),
                                           void *data);

EXPORT int qemu_plugin_version = 1;

enum { LOAD_STORE, SIMD, BRANCH, INTEGER, CLASSES };
enum { MARK_EMPTY = 0x5EC00001, MARK_BEGIN = 0x5EC00002, MARK_END = 0x5EC00003, SYSCALL_CLOSE = 57 };

static uint64_t executed[CLASSES], at_begin[CLASSES];
static const char *region;
static unsigned int vcpus;
static int out = -1;

/* Arm Architecture Reference Manual for A-profile, C4.1: the main encoding table of A64, bits 28 to 25. Loads and
 * stores of SIMD registers are loads and stores. */
static int class_of(uint32_t instruction) {
    unsigned int op0 = (instruction >> 25) & 0xf;
    if ((op0 & 0x5) == 0x4) return LOAD_STORE;
    if ((op0 & 0x7) == 0x7) return SIMD;
    if ((op0 & 0xe) == 0xa) return BRANCH;
    return INTEGER;
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
    uint64_t found[CLASSES] = {0};
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        uint32_t instruction;
        memcpy(&instruction, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(tb, i)), sizeof instruction);
        found[class_of(instruction)]++;
    }
    for (int k = 0; k < CLASSES; k++)
        if (found[k]) qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &executed[k], found[k]);
}

static void write_line(const char *line, int length) {
    if (length > 0 && write(out, line, (size_t)length) != length) _exit(121);
}

static void on_syscall(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                       uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number != SYSCALL_CLOSE) return;
    uint32_t file = (uint32_t)a1;
    if (file == MARK_EMPTY || file == MARK_BEGIN) {
        region = file == MARK_EMPTY ? "empty" : "call";
        memcpy(at_begin, executed, sizeof executed);
    } else if (file == MARK_END && region) {
        uint64_t now[CLASSES], total = 0;
        char line[256];
        for (int k = 0; k < CLASSES; k++) total += now[k] = executed[k] - at_begin[k];
        write_line(line, snprintf(line, sizeof line, "%s %llu %llu %llu %llu %llu\n", region, (unsigned long long)total,
                                  (unsigned long long)now[LOAD_STORE], (unsigned long long)now[SIMD],
                                  (unsigned long long)now[BRANCH], (unsigned long long)now[INTEGER]));
        region = NULL;
    }
}

static void on_vcpu(qemu_plugin_id_t id, unsigned int vcpu) {
    (void)id, (void)vcpu;
    __atomic_add_fetch(&vcpus, 1, __ATOMIC_RELAXED);
}

static void on_exit_of_guest(qemu_plugin_id_t id, void *data) {
    char line[32];
    (void)id, (void)data;
    write_line(line, snprintf(line, sizeof line, "vcpus %u\n", vcpus));
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "out=", 4) == 0) out = open(argv[i] + 4, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0) return 1;
    qemu_plugin_register_vcpu_init_cb(id, on_vcpu);
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_vcpu_syscall_cb(id, on_syscall);
    qemu_plugin_register_atexit_cb(id, on_exit_of_guest, NULL);
    return 0;
}
