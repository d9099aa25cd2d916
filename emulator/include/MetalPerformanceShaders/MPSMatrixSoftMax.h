#pragma once

#import <MetalPerformanceShaders/MPSMatrixTypes.h>

NS_ASSUME_NONNULL_BEGIN

/// Y[i, j] = exp(X[i, j]) / sum_k exp(X[i, k]). `sourceRows` and `sourceColumns` default to all that follow
/// the origin.
@interface MPSMatrixSoftMax : MPSMatrixUnaryKernel
@property(readwrite, nonatomic) NSUInteger sourceRows;
@property(readwrite, nonatomic) NSUInteger sourceColumns;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
                  inputMatrix:(MPSMatrix*)inputMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix;
@end

/// Y[i, j] = X[i, j] - log sum_k exp(X[i, k]).
@interface MPSMatrixLogSoftMax : MPSMatrixSoftMax
@end

/// dX[i, j] = Y[i, j] * (dY[i, j] - sum_k dY[i, k] * Y[i, k]); dY is the primary source, Y the secondary.
@interface MPSMatrixSoftMaxGradient : MPSMatrixBinaryKernel
@property(readwrite, nonatomic) NSUInteger sourceRows;
@property(readwrite, nonatomic) NSUInteger sourceColumns;
- (void)encodeToCommandBuffer:(id<MTLCommandBuffer>)commandBuffer
               gradientMatrix:(MPSMatrix*)gradientMatrix
          forwardOutputMatrix:(MPSMatrix*)forwardOutputMatrix
                 resultMatrix:(MPSMatrix*)resultMatrix;
@end

NS_ASSUME_NONNULL_END
