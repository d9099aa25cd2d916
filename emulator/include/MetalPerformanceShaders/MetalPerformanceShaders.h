#pragma once

// The stand-in for Apple's MetalPerformanceShaders framework on Linux: the matrix kernels that Candela uses.
#import <MetalPerformanceShaders/MPSCoreTypes.h>
#import <MetalPerformanceShaders/MPSMatrixFindTopK.h>
#import <MetalPerformanceShaders/MPSMatrixMultiplication.h>
#import <MetalPerformanceShaders/MPSMatrixSoftMax.h>
#import <MetalPerformanceShaders/MPSMatrixTypes.h>
