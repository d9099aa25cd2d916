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
typedef uint uint2 __attribute__((ext_vector_type(2)));
typedef uint uint3 __attribute__((ext_vector_type(3)));

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
bool isnan(float);
bool isnan(half);
bool isfinite(float);
bool isfinite(half);

float min(float, float);
float max(float, float);
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

template <class T, int Columns, int Rows>
struct simdgroup_matrix {
  T elements[2];
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
template <class T, int C, int R>
simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value);
template <class T, int C, int R>
void simdgroup_load(thread simdgroup_matrix<T, C, R>& to, const threadgroup T* from, ulong stride = C);
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
