#pragma once
// The part of metal_stdlib that our shaders use, declared in C++ for OpenCL: enough for its compiler to check
// a shader's address spaces, nothing that could run.

#pragma OPENCL EXTENSION cl_khr_fp16 : enable

#define device __global
#define constant __constant
#define threadgroup __local
#define thread __private

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef uint uint32_t;
typedef long int64_t;
typedef ulong uint64_t;
typedef uint uint2 __attribute__((ext_vector_type(2)));
typedef uint uint3 __attribute__((ext_vector_type(3)));
typedef ulong ulong2 __attribute__((ext_vector_type(2)));
typedef float float2 __attribute__((ext_vector_type(2)));
typedef float float4 __attribute__((ext_vector_type(4)));
typedef half half4 __attribute__((ext_vector_type(4)));
typedef ushort ushort4 __attribute__((ext_vector_type(4)));

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT1_2_F 0.707106781186547524401f
#define M_2_PI_F 0.636619772367581343076f

template <class T, class From>
inline T as_type(From from) {
  return __builtin_bit_cast(T, from);
}
/// A variable of the threadgroup.
template <class T>
threadgroup T& threadgroup_memory();

namespace metal {

enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags flags);
void simdgroup_barrier(mem_flags flags);

float exp(float);
half exp(half);
float log(float);
half log(half);
float sqrt(float);
half sqrt(half);
float rsqrt(float);
half rsqrt(half);
float tanh(float);
half tanh(half);
float fabs(float);
half fabs(half);
float fmax(float, float);
half fmax(half, half);
float fmin(float, float);
half fmin(half, half);
float cospi(float);
float abs(float);
bool isnan(float);
bool isnan(half);
bool isfinite(float);
bool isfinite(half);

float min(float, float);
float max(float, float);
float quad_sum(float);
float quad_max(float);
float simd_sum(float);
float simd_max(float);
float simd_min(float);
half min(half, half);
half max(half, half);
half simd_sum(half);
half simd_max(half);
half simd_min(half);
int min(int, int);
int max(int, int);
int simd_sum(int);
int simd_max(int);
int simd_min(int);
uint min(uint, uint);
uint max(uint, uint);
uint simd_sum(uint);
uint simd_max(uint);
uint simd_min(uint);

enum memory_order { memory_order_relaxed };
uint atomic_load_explicit(const device atomic_uint* at, memory_order order);
uint atomic_load_explicit(const threadgroup atomic_uint* at, memory_order order);
void atomic_store_explicit(device atomic_uint* at, uint value, memory_order order);
void atomic_store_explicit(threadgroup atomic_uint* at, uint value, memory_order order);
uint atomic_fetch_or_explicit(device atomic_uint* at, uint bits, memory_order order);

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  typedef T Pair __attribute__((ext_vector_type(2)));
  Pair pair;
  Pair& thread_elements() { return pair; }
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
template <class T, int C, int R>
simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value);
template <class T, int C, int R>
void simdgroup_load(thread simdgroup_matrix<T, C, R>& to, const threadgroup T* from, ulong stride = C,
                    ulong2 origin = 0, bool transpose = false);
template <class T, int C, int R>
void simdgroup_load(thread simdgroup_matrix<T, C, R>& to, const device T* from, ulong stride = C);
template <class T, int C, int R>
void simdgroup_store(simdgroup_matrix<T, C, R> from, threadgroup T* to, ulong stride = C);
template <class T, int C, int R>
void simdgroup_store(simdgroup_matrix<T, C, R> from, device T* to, ulong stride = C);
template <class T, int C, int R>
void simdgroup_multiply_accumulate(thread simdgroup_matrix<T, C, R>& to, simdgroup_matrix<T, C, R> a,
                                   simdgroup_matrix<T, C, R> b, simdgroup_matrix<T, C, R> c);

}  // namespace metal
