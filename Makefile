# SPDX-License-Identifier: MIT
# One non-recursive Makefile. `make help` says what it offers.

MAKEFLAGS += -rR --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# ---- what to build with: CROSS, CC, SAN, CHAT, VULKAN, ACCEL, O, WERROR, V ----

CROSS ?=
SAN ?=
CHAT ?=
VULKAN ?=
ACCEL ?= 1
ifneq ($(filter default undefined,$(origin CC)),)
CC := $(CROSS)gcc
endif
ifneq ($(filter default undefined,$(origin AR)),)
AR := $(CROSS)ar
endif

comma := ,
empty :=
space := $(empty) $(empty)
san_name := $(if $(SAN),san-$(subst $(comma),-,$(SAN)))
variant := $(subst $(space),/,$(strip $(CROSS:-=) $(san_name)))
O ?= build$(if $(variant),/$(variant))

TRIPLE := $(if $(CROSS),$(CROSS:-=),$(shell $(CC) -dumpmachine 2>/dev/null))
ARCH := $(firstword $(subst -, ,$(TRIPLE)))

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(2:$(O)/%=%)';)

# runtime/unpu.h is the one place that says the version.
VERSION := $(shell sed -n 's/^.define UNPU_VERSION_STRING[^"]*"\(.*\)"$$/\1/p' runtime/unpu.h)
SONAME := libunpu.so.$(firstword $(subst ., ,$(VERSION)))

# ---- flags ----

# The compiler never contracts a multiplication and an addition: every instruction set must give the
# twins the same bits, so a fused operation is always written as one.
BASE_CFLAGS := -std=gnu11 -O2 -g -Wall -Wextra -Wpedantic -Wstrict-prototypes -Wmissing-prototypes \
	-Wvla -fvisibility=hidden -ffunction-sections -fdata-sections -ffp-contract=off -pthread \
	-ffile-prefix-map=$(CURDIR)=.
# The same objects make libunpu.a and libunpu.so. No call inside the library can be interposed.
BASE_CFLAGS += -fPIC -fno-semantic-interposition
# 64-bit file offsets: without them a 32-bit program cannot open a file with a large inode number.
BASE_CPPFLAGS := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -idirafter /usr/include/libdrm
BASE_LDFLAGS := -pthread -Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro -Wl,-z,now \
	-Wl,--build-id=sha1
LIBS := -lm
# dlopen() is a library of its own before glibc 2.34.
LIBS += -ldl

# Where tools/setup leaves the libraries for cross builds.
SYSROOT_LIB := $(wildcard $(CURDIR)/build/sysroot/$(TRIPLE)/usr/lib/$(TRIPLE))
ifneq ($(SYSROOT_LIB),)
BASE_LDFLAGS += -L$(SYSROOT_LIB)
TEST_LDFLAGS := -Wl,-rpath,$(SYSROOT_LIB)
endif

# Neither costs anything that can be measured: 0.06 % more instructions, none in an inner loop.
ifeq ($(SAN),)
BASE_CFLAGS += -fstack-protector-strong
ifeq ($(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS))$(filter -O0,$(CFLAGS)),)
BASE_CPPFLAGS += -D_FORTIFY_SOURCE=2
endif
endif

ifneq ($(SAN),)
BASE_CFLAGS += $(if $(findstring fuzzer,$(SAN)),-O2,-O1) -fsanitize=$(SAN) \
	-fno-sanitize-recover=all -fno-omit-frame-pointer
BASE_LDFLAGS += -fsanitize=$(SAN)
endif
ifneq ($(WERROR),)
BASE_CFLAGS += -Werror
endif

AVX2_FLAGS := -mavx2 -mfma -mf16c
AVX512VNNI_FLAGS := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni $(AVX2_FLAGS)
NEON_DOTPROD_FLAGS := -march=armv8.2-a+dotprod

# ---- what the compiler has: $(O)/config.mk, made once and again when the flags change ----

no_build := setup help clean uninstall driver install-driver uninstall-driver
goals := $(or $(MAKECMDGOALS),all)
# `run` and `test` install what is missing first and then call make for the rest.
outer := run test test-quick test-san test-cross test-vm test-vm-debug test-long fuzz
ifneq ($(filter-out $(no_build) $(outer),$(goals)),)

# What line editing needs: libedit takes strlcpy() and vis() from libbsd.
archive = $(firstword $(wildcard $(SYSROOT_LIB:=/lib$(1).a) \
	$(shell $(CC) -print-file-name=lib$(1).a 2>/dev/null)))
edit_libs := $(if $(filter 0,$(CHAT)),,$(foreach name,edit bsd tinfo,$(call archive,$(name))))

glslang := $(shell command -v glslangValidator)
stamp := $(CC) $(BASE_CFLAGS) $(CFLAGS) $(BASE_CPPFLAGS) $(CPPFLAGS) $(BASE_LDFLAGS) $(LDFLAGS) \
	CHAT=$(CHAT) $(edit_libs) VULKAN=$(VULKAN) ACCEL=$(ACCEL) $(glslang)
$(shell mkdir -p $(O); echo '$(stamp)' | cmp -s - $(O)/.flags || echo '$(stamp)' >$(O)/.flags)

include $(O)/config.mk

# $(1): name of the instruction set, $(2): its flags, $(3): lines that need them.
probe = if printf '%s\n' $(3) | $(CC) $(2) -x c -c -o $(O)/probe.o - >$(O)/probe.log 2>&1; \
	then echo 'HAVE_$(1) := 1'; else echo 'HAVE_$(1) := 0'; fi >>$@.new
# $(1): header, $(2): Debian's package
need = printf '%s\n' '\#define PCRE2_CODE_UNIT_WIDTH 8' '\#include <$(1)>' | \
	$(CC) $(BASE_CPPFLAGS) $(CPPFLAGS) -x c -fsyntax-only - >$(O)/probe.log 2>&1 || \
	{ echo 'unpu: $(1) is missing (package $(2)); run: make setup' >&2; exit 1; }
# Everything but libc is linked into the command, so the archive is named, not the library.
static_lib = for f in $(SYSROOT_LIB:=/lib$(2).a) "$$($(CC) -print-file-name=lib$(2).a)"; do \
	if test -f "$$f"; then echo "$(1) := $$f" >>$@.new; exit; fi; done; \
	echo 'unpu: lib$(2).a of $(TRIPLE) is missing (package $(3)); run: make setup' >&2; exit 1
# CHAT: 0 builds without line editing, 1 insists on it, neither takes what there is.
no_edit = unpu: $(if $(filter 1,$(CHAT)),,built without chat: )libedit of $(TRIPLE) is missing \
	(packages libedit-dev, libbsd-dev, libncurses-dev); run: make setup
chat_lib = if printf '%s\n' '\#include <histedit.h>' | $(CC) $(BASE_CPPFLAGS) $(CPPFLAGS) -x c \
	-fsyntax-only - >$(O)/probe.log 2>&1 && test '$(words $(edit_libs))' = 3; \
	then echo 'LIB_EDIT := $(edit_libs)' >>$@.new; \
	else echo '$(no_edit)' >&2; test '$(CHAT)' != 1; fi

# VULKAN: likewise. The loader is opened when the program runs: headers and a compiler are enough.
no_vulkan = unpu: $(if $(filter 1,$(VULKAN)),,built without vulkan: )Vulkan headers or glslang are \
	missing (packages libvulkan-dev, glslang-tools); run: make setup
vulkan = if test -n '$(glslang)' && printf '%s\n' '\#include <vulkan/vulkan.h>' | \
	$(CC) $(BASE_CPPFLAGS) -idirafter /usr/include $(CPPFLAGS) -x c -fsyntax-only - \
	>$(O)/probe.log 2>&1; then echo 'HAVE_VULKAN := 1' >>$@.new; \
	else echo '$(no_vulkan)' >&2; test '$(VULKAN)' != 1; fi

$(O)/config.mk: Makefile $(O)/.flags
	@command -v $(CC) >/dev/null || \
		{ echo 'unpu: the compiler $(CC) is missing; run: make setup' >&2; exit 1; }
	@$(call need,pcre2.h,libpcre2-dev)
	@$(call need,drm.h,libdrm-dev)
	@: >$@.new
	@$(call probe,AVX2,$(AVX2_FLAGS),'#include <immintrin.h>' \
		'__m256 f(__m256 a) { return _mm256_fmadd_ps(a, a, a); }')
	@$(call probe,AVX512VNNI,$(AVX512VNNI_FLAGS),'#include <immintrin.h>' \
		'__m512i f(__m512i a) { return _mm512_dpbusd_epi32(a, a, a); }')
	@$(call probe,NEON,,'#ifndef __aarch64__' '#error' '#endif' '#include <arm_neon.h>' \
		'float32x4_t f(float32x4_t a) { return vfmaq_f32(a, a, a); }')
	@$(call probe,NEON_DOTPROD,$(NEON_DOTPROD_FLAGS),'#ifndef __aarch64__' '#error' '#endif' \
		'#include <arm_neon.h>' \
		'int32x4_t f(int32x4_t a, int8x16_t b) { return vdotq_s32(a, b, b); }')
	@$(call static_lib,LIB_PCRE2,pcre2-8,libpcre2-dev)
	@$(if $(filter 0,$(CHAT)),,$(chat_lib))
	@$(if $(filter 0,$(VULKAN)),,$(vulkan))
	@mv $@.new $@
endif

ISAS := AVX2 AVX512VNNI NEON NEON_DOTPROD
BASE_CPPFLAGS += $(foreach isa,$(ISAS),-DUNPU_HAVE_$(isa)=$(or $(HAVE_$(isa)),0)) \
	-DUNPU_CHAT=$(if $(LIB_EDIT),1,0) -DUNPU_VULKAN=$(or $(HAVE_VULKAN),0) \
	-DUNPU_ACCEL=$(if $(filter 0,$(ACCEL)),0,1)
# Vulkan's headers are the same on every machine: cross builds take this one's.
BASE_CPPFLAGS += $(if $(and $(CROSS),$(HAVE_VULKAN)),-idirafter /usr/include)

# ---- what to build: no lists of files, a new file in its folder is enough ----

lib_src := $(wildcard runtime/*.c runtime/model/*.c runtime/text/*.c runtime/plan/*.c \
	runtime/session/*.c runtime/device/*.c runtime/device/cpu/*.c shaders/*.c uapi/*.c)
ifeq ($(ARCH),x86_64)
lib_src += $(wildcard runtime/device/cpu/x86/*.c)
else ifeq ($(ARCH),aarch64)
lib_src += $(wildcard runtime/device/cpu/arm/*.c)
endif
spirv := $(if $(HAVE_VULKAN),$(O)/shaders/spirv.c)
lib_src += $(if $(HAVE_VULKAN),$(wildcard runtime/device/vulkan/*.c))
lib_src += $(if $(filter 0,$(ACCEL)),,$(wildcard runtime/device/accel/*.c))
lower = $(shell echo $(1) | tr A-Z a-z)
# $(1): sources, without those of instruction sets that the compiler has not.
supported = $(filter-out \
	$(if $(filter 1,$(HAVE_AVX2)),,%_avx2.c) \
	$(if $(filter 1,$(HAVE_AVX512VNNI)),,%_avx512vnni.c) \
	$(if $(filter 1,$(HAVE_NEON)),,%_neon.c) \
	$(if $(filter 1,$(HAVE_NEON_DOTPROD)),,%_neon_dotprod.c), $(1))
lib_src := $(call supported,$(lib_src))
# Training: an archive of its own, which libunpu knows nothing of.
train_src := $(call supported,$(wildcard train/*.c))

cmd_src := $(filter-out $(if $(LIB_EDIT),,%/cmd_chat.c %/conversation.c %/line.c), \
	$(wildcard tools/unpu/*.c))
# What programs of tools/ share.
shared_src := $(wildcard tools/lib/*.c)
vdev_src := $(wildcard tools/unpu-vdev/*.c)
# tests/lib/mk*.c are programs that make test data; the rest of tests/lib is what all tests share.
mk_src := $(wildcard tests/lib/mk*.c)
testlib_src := $(filter-out $(mk_src),$(wildcard tests/lib/*.c))
check_src := $(wildcard tests/checkunpu/*.c)
unit_src := $(filter-out $(if $(HAVE_VULKAN),,tests/unit/vulkan_%) \
	$(if $(filter 0,$(ACCEL)),tests/unit/accel%),$(wildcard tests/unit/*.c))
# Again, through the client of the kernel driver and a kernel in the process.
accel_src := $(if $(filter 0,$(ACCEL)),,$(wildcard tests/unit/session*.c))
# What goes wrong with a device when a test wants it: linked before the library.
hook_src := $(if $(HAVE_VULKAN),tests/hooks/vulkan.c)
accel_hook_src := $(if $(filter 0,$(ACCEL)),,tests/hooks/accel.c)
vdev_hook_src := $(wildcard tests/hooks/vdev.c)
# A device process that lies to the driver.
liar_src := $(wildcard tests/vm/liar/*.c)
probe_src := $(if $(HAVE_VULKAN),$(wildcard tools/unpu-probe/*.c))
fuzz_src := $(wildcard tests/fuzz/*.c)
# tests/bench/insncount.c is a plugin for qemu, which insns.sh builds.
bench_src := $(filter-out tests/bench/insncount.c,$(wildcard tests/bench/*.c))

obj = $(patsubst %.c,$(O)/%.o,$(1))
bin = $(patsubst %.c,$(O)/%,$(1))

lib_obj = $(call obj,$(lib_src)) $(spirv:.c=.o)

lib := $(O)/libunpu.a
train := $(if $(train_src),$(O)/libtrain.a)
# A sanitizer's runtime belongs to the program: there is no libunpu.so of such a build.
so := $(if $(SAN),,$(O)/libunpu.so.$(VERSION))
so_links := $(if $(SAN),,$(O)/$(SONAME) $(O)/libunpu.so)
so_map := tools/packaging/libunpu.map
testlib := $(O)/tests/libtest.a
cmd := $(if $(cmd_src),$(O)/unpu)
check := $(if $(check_src),$(O)/tests/checkunpu/checkunpu)
units := $(call bin,$(unit_src))
makers := $(call bin,$(mk_src))
fuzzers := $(call bin,$(fuzz_src))
benches := $(call bin,$(bench_src))
hooks := $(call obj,$(hook_src))
accel_hooks := $(call obj,$(accel_hook_src))
accels := $(patsubst tests/unit/%.c,$(O)/tests/accel/%,$(accel_src))
vdev_hooks := $(call obj,$(vdev_hook_src))
shared := $(call obj,$(shared_src))
prober := $(if $(probe_src),$(O)/unpu-probe)
vdev := $(if $(vdev_src),$(O)/unpu-vdev)
hooked := $(if $(hooks)$(accel_hooks),$(O)/tests/hooked/unpu $(prober:$(O)/%=$(O)/tests/hooked/%))
hooked_vdev := $(vdev:$(O)/%=$(O)/tests/hooked/%)
liar := $(if $(liar_src),$(O)/tests/hooked/liar)
all_src := $(lib_src) $(cmd_src) $(shared_src) $(vdev_src) $(mk_src) $(testlib_src) $(check_src) \
	$(unit_src) $(fuzz_src) $(bench_src) $(hook_src) $(accel_hook_src) \
	$(vdev_hook_src) $(liar_src) $(probe_src) $(train_src)

.PHONY: docs
.PHONY: fuzz fuzz-targets
.PHONY: shader-stats
.PHONY: all tests units run bench install install-strip uninstall clean setup help $(outer) FORCE
.PHONY: driver install-driver uninstall-driver
all: $(lib) $(so) $(so_links) $(cmd) $(prober) $(vdev)
units: $(units)
tests: all $(units) $(accels) $(check) $(makers) $(fuzzers) $(hooked) $(hooked_vdev) $(liar)
benches: all $(benches)

# ---- how to build it ----

# What runs once a command, a program or a job is to be small: 38 KB of the command.
$(O)/tools/%.o $(O)/runtime/device/%.o: OPT := $(if $(SAN),,-Os)
# Plain C is what runs where there are no vectors; elsewhere it is there for tests.
cpu_opt := $(if $(SAN),,-O3)
$(O)/runtime/device/cpu/%.o: OPT := $(if $(filter x86_64 aarch64,$(ARCH)),,$(cpu_opt))
$(O)/runtime/device/cpu/x86/%.o $(O)/runtime/device/cpu/arm/%.o: OPT := $(cpu_opt)
$(O)/runtime/plan/panels.o $(O)/runtime/plan/panels_k.o: OPT := $(if $(SAN),,-O3)
$(O)/runtime/model/blocks.o: OPT := $(if $(SAN),,-O3)
# Loops become vectors, sums of products fused: twins of one another these are not.
$(O)/train/kernels_%.o: OPT := -ffp-contract=fast -fno-math-errno -fno-trapping-math \
	$(if $(SAN),,-O3)
# Where the probe is looked for besides beside the program and in its ../libexec/unpu.
$(O)/runtime/device/probe.o: ISA_FLAGS = -DUNPU_LIBEXECDIR='"$(LIBEXECDIR)"'
$(O)/%_avx2.o: ISA_FLAGS := $(AVX2_FLAGS)
$(O)/%_avx512vnni.o: ISA_FLAGS := $(AVX512VNNI_FLAGS)
$(O)/train/%_avx512vnni.o: ISA_FLAGS := $(AVX512VNNI_FLAGS) -mprefer-vector-width=512
$(O)/%_neon_dotprod.o: ISA_FLAGS := $(NEON_DOTPROD_FLAGS)

$(O)/%.o: %.c $(O)/config.mk
	@mkdir -p $(@D)
	$(call say,CC,$@)$(CC) $(BASE_CPPFLAGS) $(CPPFLAGS) $(BASE_CFLAGS) $(OPT) $(ISA_FLAGS) \
		$(CFLAGS) -MMD -MP -c -o $@ $<

# Shaders: one module each of what tools/spirv lists, in one file of words. All build folders share
# the compiled ones; where the tree cannot be written to, each compiles its own.
glsl_src := $(wildcard shaders/*.comp shaders/*.glsl)
modules = $(shell mkdir -p build/shaders 2>/dev/null && test -w build/shaders && echo build || \
	echo $(O))/shaders
HOSTCC ?= $(if $(CROSS),gcc,$(CC))
$(O)/tools/spirv-pack: tools/spirv-pack.c
	@mkdir -p $(@D)
	$(call say,HOSTCC,$@)$(HOSTCC) -O2 -Wall -Wextra -o $@ $<
$(O)/shaders/spirv.c: tools/spirv $(O)/tools/spirv-pack $(glsl_src) $(O)/config.mk
	@mkdir -p $(@D)
	$(call say,SPIRV,$@)tools/spirv $(modules) $(abspath $(O)/tools/spirv-pack) $(abspath $@)
# Words alone; what a debugger would be told is the build folder's name.
$(O)/shaders/spirv.o: $(O)/shaders/spirv.c
	$(call say,CC,$@)$(CC) $(BASE_CPPFLAGS) $(CPPFLAGS) $(BASE_CFLAGS) $(CFLAGS) -g0 -c -o $@ $<

# What tests/lib/errno_rows.c has a function for each row of.
$(O)/tests/lib/errno_table.h: tests/lib/errno_table.sh uapi/unpu_accel.h
	@mkdir -p $(@D)
	$(call say,GEN,$@)$< uapi/unpu_accel.h >$@
$(O)/tests/lib/errno_rows.o: $(O)/tests/lib/errno_table.h
$(O)/tests/lib/errno_rows.o: ISA_FLAGS = -I$(O)/tests/lib

# A removed source must leave its archive: the list of objects is a prerequisite.
$(O)/%.list: FORCE
	@mkdir -p $(@D); echo '$(objects)' | cmp -s - $@ || echo '$(objects)' >$@
$(lib).list: objects = $(lib_src:.c=.o) $(notdir $(spirv))
$(testlib).list: objects = $(testlib_src:.c=.o)
$(train).list: objects = $(train_src:.c=.o)

$(lib): $(lib_obj) $(lib).list
$(testlib): $(call obj,$(testlib_src)) $(testlib).list
$(train): $(call obj,$(train_src)) $(train).list
$(lib) $(testlib) $(train):
	@rm -f $@
	$(call say,AR,$@)$(AR) rcs $@ $(filter %.o,$^)

$(so): $(lib) $(so_map)
	$(call say,LINK,$@)$(CC) -shared $(BASE_CFLAGS) $(CFLAGS) $(BASE_LDFLAGS) $(LDFLAGS) -o $@ \
		-Wl,-soname,$(SONAME) -Wl,--version-script=$(so_map) -Wl,--no-undefined \
		-Wl,-Bsymbolic-functions $(lib_obj) -lpcre2-8 $(LIBS)
$(so_links): $(so)
	@ln -sf $(<F) $@

link = $(CC) -pie $(BASE_CFLAGS) $(CFLAGS) $(BASE_LDFLAGS) $(LDFLAGS) -o $@ \
	$(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group

$(O)/unpu: $(call obj,$(cmd_src)) $(shared) $(lib)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIB_EDIT) $(LIBS)

$(prober): $(call obj,$(probe_src)) $(lib)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIBS)

$(vdev): $(call obj,$(vdev_src)) $(shared) $(lib)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIBS)

# The same programs, with devices that fail or are smaller when the environment says so.
$(O)/tests/hooked/unpu: $(call obj,$(cmd_src)) $(shared) $(accel_hooks) \
	$(if $(accel_hooks),$(O)/tests/lib/gpuish.o)
$(O)/tests/hooked/unpu-probe: $(call obj,$(probe_src))
$(hooked): $(hooks) $(lib)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIB_EDIT) $(LIBS)
# And one whose programs hang, stick or exit when the data says so.
$(hooked_vdev): $(call obj,$(vdev_src)) $(shared) $(hooks) $(vdev_hooks) $(lib)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIBS)

liar_parts := $(filter %/ivshmem.c %/link.c %/log.c %/socket.c,$(vdev_src))
$(liar): $(call obj,$(liar_src) $(liar_parts)) $(lib)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(link) $(LIBS)

$(check): $(call obj,$(check_src)) $(hooks)
$(filter $(O)/tests/unit/vulkan_%,$(units)): $(hooks)
vdev_units := $(filter $(O)/tests/unit/vdev_% $(O)/tests/unit/vulkan_vdev,$(units))
$(vdev_units): $(vdev_hooks)
$(vdev_units) $(filter $(O)/tests/fuzz/proto,$(fuzzers)): $(shared) \
	$(call obj,$(filter-out %/main.c,$(vdev_src)))
$(O)/tests/unit/vulkan_core: TEST_LDFLAGS += -Wl,--wrap=dlopen,--wrap=dlsym,--wrap=dlclose
$(units) $(fuzzers) $(makers) $(benches): $(O)/%: $(O)/%.o
$(O)/tests/unit/conversation: $(O)/tools/unpu/conversation.o
$(O)/tests/unit/sandbox: $(O)/tools/lib/sandbox.o
$(filter $(O)/tests/unit/train_%,$(units)): $(train)
$(filter $(O)/tests/unit/accel%,$(units)) $(accels): $(accel_hooks)
$(accels): $(O)/tests/accel/%: $(O)/tests/unit/%.o
$(check) $(units) $(accels) $(fuzzers) $(benches): $(testlib) $(lib)
	@mkdir -p $(@D)
	$(call say,LINK,$@)$(link) $(TEST_LDFLAGS) -lcmocka $(LIB_PCRE2) $(LIBS)
# `make run` makes its model with one of these before anything of the tests is installed.
$(makers): $(O)/tests/lib/tiny.o $(lib)
	$(call say,LINK,$@)$(link) $(LIB_PCRE2) $(LIBS)

# One program of libFuzzer a target: $(O)/fuzz/tests/fuzz/NAME.
fuzz:
	@$(MAKE) O='$(O)/fuzz' CC=clang SAN=fuzzer,address,undefined fuzz-targets
fuzz-targets: $(fuzzers)

-include $(patsubst %.c,$(O)/%.d,$(all_src))

# ---- the kernel driver ----

# In a copy: a kernel's build leaves what it makes beside the sources.
driver_files := $(filter-out %.md,$(wildcard driver/*.[ch] driver/*.sh driver/Kbuild \
	driver/Makefile driver/dkms.conf))
driver_shared := $(wildcard uapi/*.[ch]) $(foreach name,shaders layout,shaders/$(name).c \
	shaders/$(name).h)
driver_copy := $(driver_files:%=$(O)/%) $(driver_shared:%=$(O)/driver/%)
KERNEL_ARCH := $(if $(CROSS),$(patsubst aarch64,arm64,$(patsubst i686,x86,$(ARCH))))
# Not the flags of this make: to a kernel's, O is another thing.
kernel_make = MAKEFLAGS='--no-print-directory $(filter -j% --jobserver%,$(MAKEFLAGS))' $(MAKE) \
	$(if $(KDIR),KDIR='$(KDIR)') $(if $(CROSS),ARCH=$(KERNEL_ARCH) CROSS_COMPILE=$(CROSS)) \
	$(foreach name,UNPU_MOCK UNPU_RENDER_NODE W C CF V,$(if $($(name)),$(name)='$($(name))'))

$(O)/driver/%: driver/%
	@install -D $< $@
$(driver_shared:%=$(O)/driver/%): $(O)/driver/%: %
	@install -D $< $@
driver: $(driver_copy)
	@+$(kernel_make) -C '$(O)/driver'

# ---- what to do with it ----

PROMPT ?= Once upon a time
TOKENS ?= $(if $(MODEL),128,64)
run_model := $(or $(MODEL),$(O)/generated.gguf)
random_weights := No MODEL=file.gguf given: this generated model has random weights, its text is \
	nonsense.

run:
	@tools/setup build
	@$(MAKE) all $(if $(MODEL),,$(O)/generated.gguf)
	@$(if $(MODEL),,echo '$(random_weights)' >&2)
	@$(O)/unpu run '$(run_model)' -p '$(PROMPT)' -n $(TOKENS)

$(O)/generated.gguf: $(O)/tests/lib/mktiny
	$(call say,GEN,$@)$< llama q8_0 $@

test:
	@tools/setup build test
	@tools/setup cross || true
	@tools/setup vm || true
	@tests/run all
test-quick:
	@tools/setup build test
	@tests/run quick
test-san:
	@tools/setup build test
	@tests/run san
test-cross:
	@tools/setup build test cross
	@tests/run cross
test-vm:
	@tools/setup build test
	@tools/setup cross || true
	@tools/setup vm || true
	@tests/run vm vm-arm64
test-vm-debug:
	@tools/setup build test
	@tools/setup vm kernel || true
	@tests/run vm-debug
test-long:
	@tools/setup build test
	@tools/setup cross || true
	@tools/setup vm kernel || true
	@tests/run long

# With PEER=folder of llama-bench, both in turn on the same file.
bench: benches $(if $(MODEL),,$(O)/generated.gguf)
	@$(if $(MODEL),,echo '$(random_weights)' >&2)
	@$(if $(PEER),UNPU='$(O)/unpu' tests/bench/peers.sh '$(PEER)' '$(run_model)', \
		$(O)/unpu bench '$(run_model)')

# ---- where it is installed: PREFIX, LIBDIR, ... below DESTDIR ----

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
LIBDIR ?= $(PREFIX)/lib
LIBEXECDIR ?= $(PREFIX)/libexec/unpu
INCLUDEDIR ?= $(PREFIX)/include
MANDIR ?= $(PREFIX)/share/man
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
ifeq ($(origin STRIP),undefined)
STRIP := $(CROSS)strip
endif

man := $(wildcard tools/packaging/man/*.[1-8])
man_dir = $(MANDIR)/$(subst .,man,$(suffix $(1)))
# mode:file:where it goes
installed := 755:$(O)/unpu:$(BINDIR)/unpu \
	$(if $(prober),755:$(prober):$(LIBEXECDIR)/unpu-probe) \
	$(if $(vdev),755:$(vdev):$(BINDIR)/unpu-vdev) \
	644:$(lib):$(LIBDIR)/libunpu.a \
	644:$(O)/libunpu.so.$(VERSION):$(LIBDIR)/libunpu.so.$(VERSION) \
	644:runtime/unpu.h:$(INCLUDEDIR)/unpu.h \
	$(foreach page,$(man),644:$(page):$(call man_dir,$(page))/$(notdir $(page))) \
	$(patsubst %,644:%:$(BASHDIR)/unpu,$(wildcard tools/packaging/completion/unpu.bash)) \
	$(patsubst %,644:%:$(ZSHDIR)/_unpu,$(wildcard tools/packaging/completion/_unpu))
installed_links := $(LIBDIR)/$(SONAME) $(LIBDIR)/libunpu.so
pc := $(LIBDIR)/pkgconfig/unpu.pc
below_prefix = $(patsubst $(PREFIX)/%,$${prefix}/%,$(1))

define one_line
	$(1)

endef
part = $(word $(1),$(subst :, ,$(2)))
# -D makes folders that all may enter, whatever the umask.
install_one = install -D -m $(call part,1,$(1)) '$(call part,2,$(1))' \
	'$(DESTDIR)$(call part,3,$(1))'
link_one = ln -sf libunpu.so.$(VERSION) '$(DESTDIR)$(1)'

install: all
	$(if $(SAN),$(error a build with SAN is not one to install))
	$(foreach item,$(installed),$(call one_line,$(call install_one,$(item))))
	$(foreach link,$(installed_links),$(call one_line,$(call link_one,$(link))))
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(call below_prefix,$(LIBDIR))|' \
		-e 's|@INCLUDEDIR@|$(call below_prefix,$(INCLUDEDIR))|; s|@VERSION@|$(VERSION)|' \
		tools/packaging/unpu.pc.in | install -D -m 644 /dev/stdin '$(DESTDIR)$(pc)'

install-strip: install
	$(STRIP) '$(DESTDIR)$(BINDIR)/unpu' $(if $(vdev),'$(DESTDIR)$(BINDIR)/unpu-vdev') \
		$(if $(prober),'$(DESTDIR)$(LIBEXECDIR)/unpu-probe')
	$(STRIP) --strip-unneeded '$(DESTDIR)$(LIBDIR)/libunpu.so.$(VERSION)'
	$(STRIP) --strip-debug '$(DESTDIR)$(LIBDIR)/libunpu.a'

uninstall:
	rm -f $(foreach item,$(installed),'$(DESTDIR)$(call part,3,$(item))') \
		$(foreach name,$(installed_links) $(pc),'$(DESTDIR)$(name)') \
		'$(DESTDIR)$(LIBEXECDIR)/unpu-probe'

# The sources for DKMS and a rule for udev.
SRCDIR ?= $(PREFIX)/src
UDEVDIR ?= $(PREFIX)/lib/udev/rules.d
driver_tree = $(SRCDIR)/unpu-$(VERSION)
mode = $(if $(filter %.sh,$(1)),755,644)
install-driver:
	$(foreach file,$(driver_files) $(driver_shared),$(call one_line,$(call \
		install_one,$(call mode,$(file)):$(file):$(driver_tree)/$(file:driver/%=%))))
	sed -i 's|@VERSION@|$(VERSION)|' '$(DESTDIR)$(driver_tree)/dkms.conf'
	$(call install_one,644:tools/packaging/60-unpu.rules:$(UDEVDIR)/60-unpu.rules)
	$(if $(DESTDIR),,@echo 'Next: dkms install $(driver_tree); udevadm control --reload')

uninstall-driver:
	rm -rf '$(DESTDIR)$(driver_tree)'
	rm -f '$(DESTDIR)$(UDEVDIR)/60-unpu.rules'

# Committed, so that a cross build need not run its command: manual pages and completion.
docs: all
	@set -e; put() { $(O)/unpu --print-docs $$2 $$3 >"$$1.new" && mv "$$1.new" "$$1"; }; \
	put tools/packaging/completion/unpu.bash bash; \
	put tools/packaging/completion/_unpu zsh; \
	put tools/packaging/man/unpu.1 man; \
	for name in $$($(O)/unpu --print-docs names); do \
		put "tools/packaging/man/unpu-$$name.1" man "$$name"; \
	done

# What the compilers of boards that need not be there make of the shaders; the compilers are built
# once, in build/shader-stats.
stats := $(O)/tools/shader-stats/shader-stats
-include $(stats).d
$(stats): $(call obj,tools/shader-stats/shader-stats.c shaders/shaders.c shaders/layout.c \
		runtime/device/vulkan/module.c) $(spirv:.c=.o)
	$(if $(spirv),,$(error make shader-stats wants a build with Vulkan))
	$(call say,LINK,$@)$(link) -lvulkan
shader-stats: $(stats)
	@tools/setup stats
	@tools/shader-stats/compilers build/shader-stats
	@tools/shader-stats/run build/shader-stats $(stats)

setup:
	@tools/setup build test cross vm

clean:
	rm -rf $(O)

help:
	@echo 'make [all]       libunpu.a, libunpu.so and the command $(O)/unpu'
	@echo 'make run         build, then write text: MODEL=file.gguf PROMPT="..." TOKENS=128'
	@echo 'make test        all tests; parts: test-quick test-san test-cross test-vm'
	@echo '                 longer: test-vm-debug test-long'
	@echo 'make fuzz        the fuzz targets of tests/fuzz with libFuzzer (clang)'
	@echo 'make bench       speed of MODEL=file.gguf; PEER=dir: beside its llama-bench'
	@echo 'make shader-stats  what the shader compilers of three boards make of shaders/'
	@echo 'make install     DESTDIR= PREFIX=/usr/local LIBDIR=PREFIX/lib; without symbols:'
	@echo '                 install-strip; uninstall takes the same away'
	@echo 'make driver      $(O)/driver/unpu.ko for the kernel of KDIR=; UNPU_RENDER_NODE=1:'
	@echo '                 a render node, no accel node; UNPU_MOCK=1: with a mock, for tests'
	@echo 'make install-driver  its sources for DKMS into SRCDIR=PREFIX/src and a udev rule;'
	@echo '                 uninstall-driver takes them away'
	@echo 'make docs        manual pages and completion in tools/packaging, from the options'
	@echo 'make setup       install what is missing (Debian 12)'
	@echo 'make clean       remove $(O)'
	@echo
	@echo 'V=1 shows the commands; O=dir builds elsewhere; WERROR=1 makes warnings errors;'
	@echo 'SAN=address,undefined or SAN=thread; CC=clang; CROSS=aarch64-linux-gnu-; CHAT=0: no'
	@echo 'unpu chat, no libedit; VULKAN=0: no GPU, no glslang; ACCEL=0: no accel:N'

FORCE:
