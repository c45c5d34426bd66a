// SPDX-License-Identifier: Apache-2.0
// Selects the kernels of the best instruction set that the processor and the operating system support.
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <new>

#ifdef IMG3D_HAS_AMX
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include "kernels.h"

namespace isa_baseline {
extern const img3d::KernelTable table;
}
#ifdef IMG3D_HAS_X86_ISAS
namespace isa_avx2 {
extern const img3d::KernelTable table;
}
namespace isa_avx512 {
extern const img3d::KernelTable table;
}
namespace isa_avx512_bf16 {
void attention_bfloat16(const img3d::AttentionInputs&, img3d::Scratch&);
extern const img3d::NetworkKernels networks;
}
#ifdef IMG3D_HAS_AMX
namespace isa_amx {
extern const img3d::NetworkKernels networks;
}
#endif
#endif

namespace img3d {

const KernelTable* find_kernels(const char* isa) {
#ifdef IMG3D_HAS_X86_ISAS
  if (!std::strcmp(isa, "avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"))
    return &isa_avx512::table;
  if (!std::strcmp(isa, "avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2"))
    return &isa_avx2::table;
#endif
  if (!std::strcmp(isa, "baseline")) return &isa_baseline::table;
  return nullptr;
}

const KernelTable& kernels() {
  static const KernelTable& chosen = [&]() -> const KernelTable& {
    // For tests of the other kernels. An unknown or unsupported name selects the best.
    const char* wanted = std::getenv("IMG3D_ISA");
    if (wanted)
      if (const KernelTable* table = find_kernels(wanted)) return *table;
    for (const char* isa : {"avx512", "avx2"})
      if (const KernelTable* table = find_kernels(isa)) return *table;
    return *find_kernels("baseline");
  }();
  return chosen;
}

#ifdef IMG3D_HAS_X86_ISAS
static bool has_avx512_bf16() { return &kernels() == &isa_avx512::table && __builtin_cpu_supports("avx512bf16"); }

#ifdef IMG3D_HAS_AMX
// Linux lets a process use the tile registers if it asks; all its threads may then. Not where the environment names a set
// of instructions.
static bool may_use_amx() {
#ifdef __linux__
  if (std::getenv("IMG3D_ISA")) return false;
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned AMX_BF16 = 1u << 22, AMX_TILE = 1u << 24;
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx & AMX_BF16) || !(edx & AMX_TILE)) return false;
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return false;
#endif
}
#endif
#endif

AttentionKernel attention_kernel() {
#ifdef IMG3D_HAS_X86_ISAS
  if (has_avx512_bf16()) return &isa_avx512_bf16::attention_bfloat16;
#endif
  return nullptr;
}

const NetworkKernels* bfloat16_networks() {
#ifdef IMG3D_HAS_X86_ISAS
  static const NetworkKernels* const chosen = []() -> const NetworkKernels* {
    if (!has_avx512_bf16()) return nullptr;
#ifdef IMG3D_HAS_AMX
    if (may_use_amx()) return &isa_amx::networks;
#endif
    // Intel's processors multiply float32 numbers faster than pairs of bfloat16: on Emerald Rapids, by 1.8 times.
    return __builtin_cpu_is("amd") || std::getenv("IMG3D_ISA") ? &isa_avx512_bf16::networks : nullptr;
  }();
  return chosen;
#else
  return nullptr;
#endif
}

Scratch::~Scratch() { std::free(data_); }

void* Scratch::reserve(size_t bytes) {
  if (bytes > capacity_) {
    std::free(data_);
    capacity_ = 0;
    const size_t wanted = ((bytes + bytes / 4) / 64 + 1) * 64;  // 25 % more than needed: training keeps adding Gaussians
    data_ = std::aligned_alloc(64, wanted);
    if (!data_) throw std::bad_alloc();
    capacity_ = wanted;
  }
#ifdef __SANITIZE_ADDRESS__  // the spare part must not be accessed
  __asan_unpoison_memory_region(data_, capacity_);
  __asan_poison_memory_region(static_cast<char*>(data_) + bytes, capacity_ - bytes);
#endif
  return data_;
}

}  // namespace img3d
